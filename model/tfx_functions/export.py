"""Exports the trained model as a SavedModel that takes raw ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from contract import evaluation_outputs as outputs
from contract import features
from contract import signatures as names
from model import ranking
from model.catalogue import Catalogue
from model.categories import category_table, number_table
from model.network.mind import MindModel
from model.tfx_functions import evaluation, preprocessing
from model.tfx_functions.transformed_data import ItemTexts

_NUMERIC = tf.float32


class ExportedMind(tf.Module):
    """The user tower with its vocabulary and the final item vectors.

    Position i of the vocabulary, counted from 0, is item index i + 1 inside the model.

    Args:
      model: A trained model.
      transform_output: Output of the Transform step that the model was trained on.
      catalogue: The catalogue that the model was trained on.
      texts: Titles, categories and filter values of the items.
      item_features: Transformed names of the side features.
      profile_names: Raw names of the profile features.
      num_recommended: Number of items in the ``recommended`` output of ``evaluate``.
      exclude_history: Whether these items leave the history out.

    Attributes:
      item_ids: Variable string [N].
      item_titles: Variable string [N].
      item_vectors: Variable float32 [N, d]; an item with a zero vector is not retrievable.
      train_counts: Variable int64 [N].
      categories: Variable string [V], the names of the categories. It exists only if the
        catalogue has categories.
      item_categories: Variable int32 [N, F], see ``model.categories``. It exists only if
        the catalogue has categories.
      filter_names: For each categorical filter, the names of its values, Variable string
        [V]. It exists only if there are filters.
      filter_values: For each filter, the values of each item: Variable int32 [N, F] like
        ``item_categories`` or, for a numeric filter, Variable float32 [N, F] padded with
        NaN. It exists only if there are filters.

    The sizes N and V are not fixed in the graph, so that items can be added without training.
    """

    def __init__(
        self,
        model: MindModel,
        transform_output: tft.TFTransformOutput,
        catalogue: Catalogue,
        texts: ItemTexts,
        item_features: Sequence[str],
        profile_names: Sequence[str],
        num_recommended: int,
        exclude_history: bool,
    ):
        super().__init__(name="exported_mind")
        self._model = model
        self._transform = transform_output.transform_features_layer()
        self._raw_feature_spec = transform_output.raw_feature_spec()
        self._item_features = tuple(item_features)
        self._profile_names = tuple(profile_names)
        self._has_times = model.model_config.time_gap
        self._num_recommended = num_recommended
        self._exclude_history = exclude_history
        vectors = model.item_embeddings().numpy()  # [N + 1, d]
        self.item_ids = _constant(preprocessing.item_ids(transform_output))
        self.item_titles = _constant(texts.titles)
        self.item_vectors = _constant(vectors[1:].astype(np.float32))
        self.train_counts = _constant(catalogue.train_counts[1:].astype(np.int64))
        if texts.categories is not None:
            table = category_table(texts.categories)
            self.categories = _constant(tf.constant(table.names.tolist(), tf.string))
            self.item_categories = _constant(table.items, num_free=2)
        if texts.filters:
            self.filter_names: dict[str, tf.Variable] = {}
            self.filter_values: dict[str, tf.Variable] = {}
        for name, values in texts.filters.items():
            if self._raw_feature_spec[features.side_feature(name)].dtype == _NUMERIC:
                self.filter_values[name] = _constant(number_table(values), num_free=2)
            else:
                table = category_table(values)
                names_of_values = tf.constant(table.names.tolist(), tf.string)
                self.filter_names[name] = _constant(names_of_values)
                self.filter_values[name] = _constant(table.items, num_free=2)
        self._buckets = _constant(outputs.popularity_buckets(catalogue.train_counts[1:]))
        self.user_interests = tf.function(
            self._user_interests,
            input_signature=[
                tf.TensorSpec([None, None], tf.string, name=features.HISTORY),
                self._person_specs(),
            ],
            autograph=False,
        )
        self.encode_items = tf.function(
            self._encode_items,
            input_signature=[tf.TensorSpec([None], tf.string, name=names.SERIALIZED_EXAMPLES)],
            autograph=False,
        )
        self.evaluate = tf.function(
            self._evaluate,
            input_signature=[tf.TensorSpec([None], tf.string, name=names.SERIALIZED_EXAMPLES)],
            autograph=False,
        )

    def save(self, path: str) -> None:
        """Writes the SavedModel with its signatures.

        They are ``user_interests``, which is also the default signature, and ``evaluate``.
        """
        specs = self._person_specs()

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.string, name=features.HISTORY),
                *specs.values(),
            ],
            autograph=False,
        )
        def user_interests(history: tf.Tensor, *person: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.user_interests(history, dict(zip(specs, person, strict=True)))

        tf.saved_model.save(
            self,
            path,
            signatures={
                names.USER_INTERESTS: user_interests,
                names.EVALUATE: self.evaluate,
                names.SERVE: user_interests,
            },
        )

    def _person_specs(self) -> dict[str, tf.TensorSpec]:
        """Input specs of what is known about people besides the items of their history."""
        specs = {name: tf.TensorSpec([None], tf.string, name) for name in self._profile_names}
        if self._has_times:
            name = features.HISTORY_TIME
            specs[name] = tf.TensorSpec([None, None], tf.int64, name)
        return specs

    def _user_interests(
        self, history: tf.Tensor, person: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Computes the interests of people from raw ids.

        Args:
          history: String [B, T], oldest first, for any T. "" is padding and may occur
            anywhere; unknown ids are ignored.
          person: String [B] by raw profile feature name; "" is unknown. If the model
            reads times, also ``history_time``, int64 [B, T], the times of the history
            in seconds since the epoch; 0 is unknown.

        Returns:
          ``interests`` float32 [B, K, d], ``interest_mask`` bool [B, K] and
          ``history_index`` int32 [B, T'], the known items of the history, zero padded. A
          model with ``repeat`` also returns ``own_index`` int32 [B, D], the distinct items
          of the newest behaviours that ``repeat`` counts, zero padded, and ``own_bonus``
          float32 [B, D], what to add to their scores.
        """
        rows = tf.shape(history, out_type=tf.int64)[0]
        raw = {
            name: tf.sparse.SparseTensor(
                tf.zeros([0, 2], tf.int64), tf.zeros([0], spec.dtype), tf.stack([rows, 0])
            )
            for name, spec in self._raw_feature_spec.items()
        }
        # Padding is removed first, because preprocessing counts positions.
        raw[features.ITEM_ID] = tf.ragged.boolean_mask(history, history != "").to_sparse()
        if self._has_times:
            raw[features.TIMESTAMP] = tf.ragged.boolean_mask(
                person[features.HISTORY_TIME], history != ""
            ).to_sparse()
        for name in self._profile_names:
            values = person[name]
            given = tf.ragged.boolean_mask(values[:, tf.newaxis], values[:, tf.newaxis] != "")
            if self._raw_feature_spec[name].dtype == _NUMERIC:
                given = given.with_values(tf.strings.to_number(given.values, _NUMERIC))
            raw[name] = given.to_sparse()
        transformed = self._transform(raw)
        interests, mask = self._interests(transformed)
        known = tf.cast(tf.sparse.to_dense(transformed[features.SEQUENCE]), tf.int32)
        user = {
            names.INTERESTS: interests,
            names.INTEREST_MASK: mask,
            names.HISTORY_INDEX: known,
        }
        if self._model.repeat:
            own = self._model.repeat.bonus(known, interests, mask, self._model.item_vectors)
            user |= {names.OWN_INDEX: own.items, names.OWN_BONUS: own.bonus}
        return user

    def _encode_items(self, examples: tf.Tensor) -> tf.Tensor:
        """Computes vectors of items from catalogue rows, even of items unknown to the model.

        An item without train interactions is embedded from its side features
        alone, as in ``item_vectors``. Values that training has not seen count
        as missing.

        Args:
          examples: Raw catalogue rows, serialized, string [M].

        Returns:
          float32 [M, d]; zeros for an item with neither train interactions nor known
          side features.
        """
        raw = tf.io.parse_example(examples, self._raw_feature_spec)
        transformed = self._transform(raw)
        return self._model.described_item_vectors(
            tf.cast(transformed[features.ITEM_INDEX][:, 0], tf.int32),
            {
                name: tf.cast(tf.sparse.to_dense(transformed[name]), tf.int32)
                for name in self._item_features
            },
        )

    def _interests(self, transformed: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        return self._model.user_interests(
            tf.cast(transformed[features.HISTORY], tf.int32),
            {name: tf.cast(transformed[name][:, 0], tf.int32) for name in self._profile_names},
            transformed[features.HISTORY_TIME] if self._has_times else None,
            training=False,
        )

    def _evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the exact ranks of the held-out items of raw examples, string [B].

        Returns:
          The outputs named in ``contract.evaluation_outputs``.
        """
        rows = evaluation.parse_rows(examples, self._raw_feature_spec, self._transform)
        interests, mask = self._interests(rows.transformed)
        vectors = tf.concat([tf.zeros_like(self.item_vectors[:1]), self.item_vectors], axis=0)
        retrievable = tf.reduce_any(vectors != 0, axis=1)  # [N + 1]
        buckets = tf.concat([[outputs.POPULARITY_BUCKETS["unseen"]], self._buckets], axis=0)

        repeat = self._model.repeat
        own = None
        if repeat:
            own = repeat.bonus(rows.history, interests, mask, self._model.item_vectors)

        def rank(targets: tf.Tensor, history: tf.Tensor, exclude: bool) -> tf.Tensor:
            ranks = ranking.target_ranks(
                interests,
                mask,
                vectors,
                history,
                targets,
                exclude,
                retrievable=retrievable,
                own=own,
            )
            # Rank N + 1 means "cannot be found"; in a tiny catalogue it would count as a hit.
            return tf.where(ranks < tf.shape(vectors)[0], ranks, outputs.UNKNOWN_RANK)

        return {
            **evaluation.ranks_with_and_without_history(
                rows, rank, outputs.RANKS, outputs.RANKS_HISTORY_INCLUDED
            ),
            **evaluation.ranks_with_and_without_history(
                rows,
                evaluation.popularity_ranks,
                outputs.POPULARITY_RANKS,
                outputs.POPULARITY_RANKS_HISTORY_INCLUDED,
            ),
            outputs.TARGET_POPULARITY: tf.where(
                rows.targets < 0, 0, tf.gather(buckets, tf.maximum(rows.targets, 0))
            ),
            outputs.RECOMMENDED: ranking.top_k(
                interests,
                mask,
                vectors,
                rows.history,
                self._num_recommended,
                self._exclude_history,
                retrievable=retrievable,
                own=own,
            )[0],
            outputs.CATALOGUE_SIZE: tf.fill(
                [tf.shape(rows.targets)[0]], tf.shape(self.item_ids)[0]
            ),
        }


def _constant(value: Any, num_free: int = 1) -> tf.Variable:
    # Variables keep large tables out of the graph, whose size is limited to 2 GB.
    value = tf.convert_to_tensor(value)
    shape = [None] * num_free + value.shape[num_free:].as_list()
    return tf.Variable(value, trainable=False, shape=shape)
