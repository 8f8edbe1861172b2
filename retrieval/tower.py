"""What the retrieval package needs of a trained model, the user tower."""

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
      item_titles: string [N]; "" where there is none.
      item_vectors: float32 [N, d]; an item of the zero vector cannot be found.
      train_counts: int64 [N].
      signatures: Has ``user_interests``, and ``evaluate`` if the model can be compared.
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
          person: The other inputs, see ``person_inputs``: string [B], and
            ``history_time`` int64 [B, T].

        Returns:
          ``interests`` float32 [B, K, d], ``interest_mask`` bool [B, K] and
          ``history_index`` int32 [B, T'], the known items, zero padded. A tower that says what
          people may have again also gives ``own_index`` int32 [B, D], items of their own, zero
          padded, and ``own_bonus`` float32 [B, D], 0 or more, what the scores of these gain.
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
    """A tower whose catalogue has side features that requests filter by.

    Attributes:
      filter_names: By categorical feature, string [V]: its values.
      filter_values: By feature, int32 [N, F], as ``item_categories``; of a numeric one
        float32 [N, F], padded with NaN.
    """

    filter_names: Mapping[str, tf.Variable]
    filter_values: Mapping[str, tf.Variable]


@runtime_checkable
class TowerThatEncodes(Tower, Protocol):
    """A tower that can embed items that it was not trained with."""

    def encode_items(self, examples: tf.Tensor) -> tf.Tensor:
        """Returns float32 [M, d] for serialized catalogue rows, string [M]."""


def retrievable_items(tower: Tower) -> np.ndarray:
    """Returns int32 [R]: rows of the items that have a vector.

    An item that was never trained and has no side features has the zero vector. It
    would outrank every item of negative score.

    Raises:
      ValueError: if no item has one.
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
    """Returns float32 [R, d], the vectors of ``rows``; the tower's own if it is all of them."""
    if rows.size == int(tf.size(tower.item_ids)):
        return tower.item_vectors
    vectors = tf.gather(tower.item_vectors.read_value(), rows)
    return tf.Variable(vectors, trainable=False, name="retrievable_vectors")


def blocks(vectors: tf.Variable, size: int = 1 << 16) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first row and the values [n, d] of each block of at most ``size`` rows.

    A large catalogue's vectors are gigabytes: no array beside the variable holds all of them.
    """
    for start in range(0, int(tf.shape(vectors)[0]), size):
        yield start, vectors[start : start + size].numpy()


def person_inputs(signatures: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the inputs about a person beside the items, as in the signatures.

    These are profile features, and ``history_time`` if the model reads times.

    Args:
      signatures: Those of a tower or of a bundle.
    """
    _, inputs = signatures[USER_INTERESTS].structured_input_signature
    return tuple(
        sorted(name for name in inputs if name.startswith(USER_PREFIX) or name == HISTORY_TIME)
    )


def knows_person(owned: tf.Tensor, history_index: tf.Tensor) -> tf.Tensor:
    """Returns bool [B]: who has a history that interests can be formed of.

    Args:
      owned: int32 [B, T], positions of the history; -1 for what cannot be found.
      history_index: int32 [B, T'], the items that the tower knows; 0 is padding.
        It does not know those that were added after its training.
    """
    return tf.reduce_any(owned >= 0, axis=1) & tf.reduce_any(history_index > 0, axis=1)
