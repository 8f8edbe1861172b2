"""A numeric feature of the items, which requests filter with bounds."""

import numpy as np
import tensorflow as tf

from contract.signatures import MAX_PREFIX, MIN_PREFIX, PADDING
from retrieval.live_columns import LiveColumn


class ItemNumbers(tf.Module):
    """A numeric feature of the items that can be found; an ``ItemFilter``.

    An item is allowed if one of its numbers lies within the bounds, both inclusive. Without a bound
    every item is allowed; with one, items without a number are not.
    """

    def __init__(
        self, values: tf.Variable, rows: np.ndarray, changed: LiveColumn | None = None
    ) -> None:
        """Builds the filter and a sorted list of the numbers.

        Args:
          values: float32 [N, F], the numbers of each item in ascending order, padded with NaN.
          rows: int32 [R], the items that can be found.
          changed: The numbers of changed items; None if items cannot change.
        """
        super().__init__(name="filter_numbers")
        self._changed = changed
        if rows.size != values.numpy().shape[0]:
            values = tf.Variable(values.numpy()[rows], trainable=False, name="retrievable_numbers")
        self._items = values  # [R, F]
        self._num_pushed = rows.size
        numbers = values.numpy()
        self._have_one_at_most = numbers.shape[1] == 1
        items, slots = np.nonzero(~np.isnan(numbers))
        order = np.argsort(numbers[items, slots], kind="stable")
        self._sorted = tf.Variable(numbers[items, slots][order], trainable=False, name="sorted")
        positions = items[order].astype(np.int32)
        self._positions = tf.Variable(positions, trainable=False, name="sorted_positions")

    def bounds(self, name: str, least: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
        """Returns a request's condition, float32 [B, 2]: the smallest and largest allowed number.

        In the graph, a text that is not a number raises ``InvalidArgumentError``.

        Args:
          name: The name of the feature, for errors.
          least: string [B], the lower bound, a number as text; "" is no bound.
          most: string [B], the upper bound, likewise.
        """
        return tf.stack(
            [
                _number(MIN_PREFIX + name, least, -np.inf),
                _number(MAX_PREFIX + name, most, np.inf),
            ],
            axis=1,
        )

    def of(self, positions: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; the padding is NaN."""
        found = self.pushed(tf.where(positions < self._num_pushed, positions, -1))
        return found if self._changed is None else self._changed.at(positions, found)

    def pushed(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns float32 [..., F], the numbers as they were pushed; padding at -1."""
        found = tf.gather(self._items.read_value(), tf.maximum(positions, 0))
        return tf.where(positions[..., tf.newaxis] >= 0, found, np.nan)

    def block(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        return self._items[start : start + size]

    def accepts(self, condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; the condition consists of the ``bounds``."""
        least, most = tf.unstack(condition[:, tf.newaxis, tf.newaxis, :], axis=3)  # [B, 1, 1]
        inside = _is_inside(values, least, most)
        return tf.reduce_any(inside, axis=2) | ~self.is_used(condition)[:, tf.newaxis]

    def is_used(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        return tf.reduce_any(tf.math.is_finite(condition), axis=1)

    def num_listed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``.

        Infinite without bounds: then items without a number, which are in no list, are allowed too.
        """
        first, last = self._range(condition)
        listed = tf.cast(tf.maximum(last - first, 0), tf.float32)
        return tf.where(self.is_used(condition), listed, np.inf)

    def lists_as_allowed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; False if items can have several numbers."""
        return tf.fill([tf.shape(condition)[0]], self._have_one_at_most)

    def listed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        first, last = self._range(condition)
        entries = slice(first[0], tf.maximum(first[0], last[0]))
        positions = self._positions[entries]
        if self._have_one_at_most:
            return positions
        # An item with several numbers has an entry for each. Keep only the entry of its first
        # number within the bounds.
        numbers = tf.gather(self._items.read_value(), positions)  # [L, F]
        inside = _is_inside(numbers, condition[0, 0], condition[0, 1])
        first_slot = tf.argmax(inside, axis=1, output_type=tf.int32)
        counts = tf.gather(numbers, first_slot, batch_dims=1) == self._sorted[entries]
        return tf.boolean_mask(positions, counts)

    def _range(self, condition: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns int32 [B] each: the first entry inside the bounds, and the one after the last."""
        numbers = self._sorted.read_value()
        return (
            tf.searchsorted(numbers, condition[:, 0], side="left"),
            tf.searchsorted(numbers, condition[:, 1], side="right"),
        )


def _is_inside(numbers: tf.Tensor, least: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    return (numbers >= least) & (numbers <= most)


def _number(name: str, texts: tf.Tensor, otherwise: float) -> tf.Tensor:
    """Parses ``texts``, string [B], and returns float32 [B]; "" gives ``otherwise``."""
    is_given = texts != PADDING
    is_number = tf.strings.regex_full_match(
        tf.strings.strip(texts), r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
    )
    checked = tf.debugging.Assert(
        tf.reduce_all(is_number | ~is_given),
        [f'{name} must be a number as text, or "" for no bound, got:', texts],
    )
    with tf.control_dependencies([checked]):
        return tf.where(
            is_given, tf.strings.to_number(tf.where(is_given, texts, "0"), tf.float32), otherwise
        )
