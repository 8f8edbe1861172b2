"""The interface of a trained model, the user tower, that the retrieval package needs."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from contract.features import HISTORY_TIME, USER_PREFIX
from contract.signatures import USER_INTERESTS


class Tower(Protocol):
    """The Trainer's loaded SavedModel (``model.tfx_functions.export.ExportedMind``).

    Attributes:
      item_ids: string [N].
      item_titles: string [N]; "" for items without a title.
      item_vectors: float32 [N, d]; an item with the zero vector cannot be found.
      train_counts: int64 [N], how often each item occurs in train.
      signatures: Contains ``user_interests``, and ``evaluate`` if later models can be compared
        with this one.
    """

    item_ids: tf.Variable
    item_titles: tf.Variable
    item_vectors: tf.Variable
    train_counts: tf.Variable
    signatures: Mapping[str, Any]

    def user_interests(
        self, history: tf.Tensor, person: Mapping[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Returns the interests of people.

        Args:
          history: string [B, T], oldest first; "" is padding.
          person: The other inputs (see ``person_inputs``): profile features, string [B], and
            ``history_time``, int64 [B, T].

        Returns:
          ``interests`` float32 [B, K, d], ``interest_mask`` bool [B, K] and
          ``history_index`` int32 [B, T'], the known items, zero padded. A tower that models
          repeated choices also returns ``own_index`` int32 [B, D], the items that each person has
          had, zero padded, and ``own_bonus`` float32 [B, D], which is not negative and is added to
          their scores.
        """


@runtime_checkable
class TowerWithCategories(Tower, Protocol):
    """A tower whose catalogue has categories.

    Attributes:
      categories: string [V], their names.
      item_categories: int32 [N, F], see ``model.categories``.
    """

    categories: tf.Variable
    item_categories: tf.Variable


@runtime_checkable
class TowerWithFilters(Tower, Protocol):
    """A tower whose catalogue has side features by which requests can filter.

    Attributes:
      filter_names: The values of each categorical feature, string [V], by feature.
      filter_values: The items' values by feature: int32 [N, F] as in ``item_categories`` for a
        categorical feature, float32 [N, F] padded with NaN for a numeric one.
    """

    filter_names: Mapping[str, tf.Variable]
    filter_values: Mapping[str, tf.Variable]


@runtime_checkable
class TowerThatEncodes(Tower, Protocol):
    """A tower that can embed items that were not in its training data."""

    def encode_items(self, examples: tf.Tensor) -> tf.Tensor:
        """Returns float32 [M, d] for serialized catalogue rows, string [M]."""


def retrievable_items(tower: Tower) -> np.ndarray:
    """Returns int32 [R], the rows of the items whose vector is not zero.

    An item that was not trained and has no side features has the zero vector. If it could be
    found, its score of 0 would rank it above every item with a negative score.

    Raises:
      ValueError: if all vectors are zero.
    """
    found = [
        start + np.flatnonzero(block.any(axis=1)) for start, block in blocks(tower.item_vectors)
    ]
    rows = np.concatenate([*found, np.zeros([0], np.int64)]).astype(np.int32)
    if not rows.size:
        raise ValueError(
            f"None of the model's {int(tf.size(tower.item_ids))} items has a vector other than "
            "zero; expected at least one trained item. Check the Trainer's item_vectors."
        )
    return rows


def retrievable_vectors(tower: Tower, rows: np.ndarray) -> tf.Variable:
    """Returns float32 [R, d], the vectors of ``rows``.

    If these are all rows, it is the tower's own variable and not a copy.
    """
    if rows.size == int(tf.size(tower.item_ids)):
        return tower.item_vectors
    vectors = tf.gather(tower.item_vectors.read_value(), rows)
    return tf.Variable(vectors, trainable=False, name="retrievable_vectors")


def blocks(vectors: tf.Variable, size: int = 1 << 16) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first row and the values [n, d] of each block of at most ``size`` rows.

    The vectors of a large catalogue take gigabytes, so this avoids a second array of all of them.
    """
    for start in range(0, int(tf.shape(vectors)[0]), size):
        yield start, vectors[start : start + size].numpy()


def person_inputs(signatures: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the inputs about a person, apart from the history, in sorted order.

    These are the profile features, and ``history_time`` if the model reads times.

    Args:
      signatures: The signatures of a tower or of a bundle.
    """
    _, inputs = signatures[USER_INTERESTS].structured_input_signature
    return tuple(
        sorted(name for name in inputs if name.startswith(USER_PREFIX) or name == HISTORY_TIME)
    )


def knows_person(owned: tf.Tensor, history_index: tf.Tensor) -> tf.Tensor:
    """Returns bool [B], whether a person's history is enough to form interests.

    Args:
      owned: int32 [B, T], positions of the items in the history; -1 for items that cannot be
        found.
      history_index: int32 [B, T'], the items of the history that the tower knows; 0 is padding.
        The tower does not know items that were added after its training.
    """
    return tf.reduce_any(owned >= 0, axis=1) & tf.reduce_any(history_index > 0, axis=1)
