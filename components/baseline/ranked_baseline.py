"""Baselines as SavedModels with the same ``evaluate`` signature as the model."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from components.baseline.item_knn import Neighbours
from components.baseline.personal_frequency import personal_frequency_ranks
from contract import evaluation_outputs as outputs
from model.tfx_functions import evaluation


class PopularityBaseline(tf.Module):
    """Ranks every item by its train frequency."""

    def __init__(self, transform_output: tft.TFTransformOutput):
        super().__init__()
        self._transform = transform_output.transform_features_layer()
        self._raw_feature_spec = transform_output.raw_feature_spec()

    def _ranks(self, targets: tf.Tensor, history: tf.Tensor, exclude: bool) -> tf.Tensor:
        return evaluation.popularity_ranks(targets, history, exclude)

    def _more_ranks(self, rows: evaluation.EvaluationRows) -> dict[str, tf.Tensor]:
        """Ranks of further baselines by their output's name."""
        del rows
        return {}

    # No control flow of Python depends on a tensor here; looking for it takes half of the tracing.
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False
    )
    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Exact ranks of the held-out items of raw examples, string [B]."""
        rows = evaluation.parse_rows(examples, self._raw_feature_spec, self._transform)
        ranks = evaluation.ranks_with_and_without_history(
            rows, self._ranks, outputs.RANKS, outputs.RANKS_HISTORY_INCLUDED
        )
        # The metrics of a model are also asked of its baseline.
        popularity = evaluation.ranks_with_and_without_history(
            rows,
            evaluation.popularity_ranks,
            outputs.POPULARITY_RANKS,
            outputs.POPULARITY_RANKS_HISTORY_INCLUDED,
        )
        people = tf.shape(rows.targets)[0]
        return {
            **ranks,
            **popularity,
            **self._more_ranks(rows),
            outputs.TARGET_POPULARITY: tf.zeros_like(rows.targets),
            outputs.RECOMMENDED: tf.zeros([people, 1], tf.int32),
            outputs.CATALOGUE_SIZE: tf.zeros([people], tf.int32),
        }

    def save(self, path: str) -> None:
        """Writes the SavedModel."""
        tf.saved_model.save(
            self, path, signatures={"evaluate": self.evaluate, "serving_default": self.evaluate}
        )


class ItemKnnBaseline(PopularityBaseline):
    """Scores an item by the summed similarity to every item of the history.

    Its ``evaluate`` also ranks by the popularity of the last days and by how often the
    person has had each item.

    Args:
      transform_output: Output of the Transform step.
      neighbours: The nearest items of each item.
      recent_ranks: By number of days, the rank of each item, see ``recent_popularity``.
    """

    def __init__(
        self,
        transform_output: tft.TFTransformOutput,
        neighbours: Neighbours,
        recent_ranks: Mapping[int, np.ndarray],
    ):
        super().__init__(transform_output)
        self._recent_ranks = {
            str(days): tf.Variable(ranks, trainable=False) for days, ranks in recent_ranks.items()
        }
        self._items = tf.Variable(neighbours.items, trainable=False)
        self._similarities = tf.Variable(neighbours.similarities, trainable=False)

    def _more_ranks(self, rows: evaluation.EvaluationRows) -> dict[str, tf.Tensor]:
        found = evaluation.ranks_with_and_without_history(
            rows,
            personal_frequency_ranks,
            outputs.PERSONAL_RANKS,
            outputs.PERSONAL_RANKS_HISTORY_INCLUDED,
        )
        for days, table in self._recent_ranks.items():

            def ranks(
                targets: tf.Tensor, history: tf.Tensor, exclude: bool, table: tf.Variable = table
            ) -> tf.Tensor:
                # A rank is an index under which the order of the items is that of the
                # ranks, as the usual index is for train frequency.
                return evaluation.popularity_ranks(
                    tf.gather(table, tf.maximum(targets, 0)), tf.gather(table, history), exclude
                )

            found |= evaluation.ranks_with_and_without_history(
                rows,
                ranks,
                outputs.RECENT_RANKS[int(days)],
                outputs.RECENT_RANKS_HISTORY_INCLUDED[int(days)],
            )
        return found

    def _ranks(self, targets: tf.Tensor, history: tf.Tensor, exclude: bool) -> tf.Tensor:
        # One person at a time: a [B, N] score matrix would not fit a large catalogue.
        return tf.map_fn(
            lambda row: self._person_ranks(row[0], row[1], exclude),
            (targets, history),
            fn_output_signature=tf.TensorSpec([None], tf.int32),
        )

    def _person_ranks(self, targets: tf.Tensor, history: tf.Tensor, exclude: bool) -> tf.Tensor:
        num_rows = tf.shape(self._items)[0]
        scores = tf.math.unsorted_segment_sum(
            tf.reshape(tf.gather(self._similarities, history), [-1]),
            tf.reshape(tf.gather(self._items, history), [-1]),
            num_rows,
        )  # [N + 1]
        never = tf.zeros([1, 1], tf.int32)  # padding is no candidate
        if exclude:
            never = tf.concat([never, history[:, tf.newaxis]], axis=0)
        scores = tf.tensor_scatter_nd_update(scores, never, tf.fill([tf.shape(never)[0]], -1.0))
        target_scores = tf.gather(scores, tf.maximum(targets, 0))  # [M]
        better = scores[tf.newaxis, :] > target_scores[:, tf.newaxis]  # [M, N + 1]
        # Equal scores rank by train frequency, which is index order.
        tied = (scores[tf.newaxis, :] == target_scores[:, tf.newaxis]) & (
            tf.range(num_rows)[tf.newaxis, :] < targets[:, tf.newaxis]
        )
        return 1 + tf.reduce_sum(tf.cast(better | tied, tf.int32), axis=1)
