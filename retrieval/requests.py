"""Requests inside the served graph: their contents and the checks of their inputs."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from contract.features import HISTORY, HISTORY_TIME
from contract.signatures import DIVERSITY, PADDING, UNKNOWN_TIME, K


class Request(NamedTuple):
    """The people to rank items for.

    Attributes:
      interests: float32 [B, K, d].
      mask: bool [B, K], the active interests; people without a history have none.
      excluded: int32 [B, X], positions to leave out; -1 is padding.
      k: int32 [B], number of items.
    """

    interests: tf.Tensor
    mask: tf.Tensor
    excluded: tf.Tensor
    k: tf.Tensor

    @property
    def is_cold(self) -> tf.Tensor:
        """Bool [B], whether a person has no active interest and gets the most popular items."""
        return ~tf.reduce_any(self.mask, axis=1)


class CategoryOptions(NamedTuple):
    """The options of a request for the categories and other features of items.

    Attributes:
      diversity: float32 [B], from 0 to 1.
      allow: string [B, C], categories of which an item must have at least one; "" is
        padding. A row of padding allows every item.
      deny: string [B, C], categories that an item must not have; "" is padding.
      filters: The inputs for other features, by name: lists of values, string [B, C], where
        "" is padding, and bounds, string [B], where "" is no bound.
    """

    diversity: tf.Tensor
    allow: tf.Tensor
    deny: tf.Tensor
    filters: Mapping[str, tf.Tensor]

    def are_diverse(self) -> tf.Tensor:
        """Returns bool [], whether any row asks for diversity."""
        return tf.reduce_any(self.diversity > 0.0)

    def are_filtered(self) -> tf.Tensor:
        """Returns bool [], whether any row has a list or a bound."""
        texts = [self.allow, self.deny, *self.filters.values()]
        return tf.reduce_any(tf.stack([tf.reduce_any(each != PADDING) for each in texts]))


def checked_k(k: tf.Tensor, batch: tf.Tensor, max_k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the k of each row, [B], and the largest k, [].

    In the graph, a value out of range raises ``InvalidArgumentError``. The other functions of
    this module treat invalid values in the same way.

    Args:
      k: int32, scalar or [B].
      batch: int32 [], B.
      max_k: The largest value allowed; the smallest is 1.
    """
    k = tf.reshape(k, [-1])
    message = f"{K} must be from 1 to {max_k} (the index's max_k)"
    with tf.control_dependencies(
        [
            tf.debugging.assert_greater_equal(k, 1, message),
            tf.debugging.assert_less_equal(k, max_k, message),
        ]
    ):
        k = tf.identity(k)
    return one_per_row(K, k, batch), tf.reduce_max(k)


def checked_category_options(options: CategoryOptions, batch: tf.Tensor) -> CategoryOptions:
    """Returns ``options`` with one row for each person.

    Args:
      options: Diversity, scalar or [B]; lists [B, C] or [1, C]; bounds [B] or [1].
      batch: int32 [], B.
    """
    diversity = tf.reshape(options.diversity, [-1])
    message = f"{DIVERSITY} must be from 0 to 1"
    with tf.control_dependencies(
        [
            tf.debugging.assert_greater_equal(diversity, 0.0, message),
            tf.debugging.assert_less_equal(diversity, 1.0, message),
        ]
    ):
        diversity = tf.identity(diversity)
    return CategoryOptions(
        one_per_row(DIVERSITY, diversity, batch),
        repeated_rows(options.allow, batch),
        repeated_rows(options.deny, batch),
        {name: repeated_rows(texts, batch) for name, texts in options.filters.items()},
    )


def one_per_row(name: str, values: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Returns one value per row, [B], given either a single value or one value per row.

    Args:
      name: The input's name, for the error.
      values: [1] or [B].
      batch: int32 [], B.
    """
    size = tf.size(values)
    fits = tf.debugging.Assert(
        (size == 1) | (size == batch),
        [f"{name} must be one value, or one per row of {HISTORY}:", batch, "rows, values:", size],
    )
    with tf.control_dependencies([fits]):
        return tf.broadcast_to(values, [batch])


def repeated_rows(values: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """Repeats a single row, such as a default, for every row of the batch."""
    return tf.broadcast_to(values, tf.concat([[batch], tf.shape(values)[1:]], axis=0))


def checked_times(times: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """Returns the times with the shape of ``history``, int64 [B, T].

    Args:
      times: int64 [B, T], or any shape if all times are unknown.
      history: string [B, T].
    """
    shape = tf.shape(history)
    is_unknown = tf.reduce_all(times == UNKNOWN_TIME)
    fits = tf.debugging.Assert(
        is_unknown | tf.reduce_all(tf.shape(times) == shape),
        [f"{HISTORY_TIME} must have the shape of {HISTORY}:", shape, "got:", tf.shape(times)],
    )
    with tf.control_dependencies([fits]):
        return tf.cond(is_unknown, lambda: tf.zeros(shape, tf.int64), lambda: times)
