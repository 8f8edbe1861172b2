"""Features of changed items by which requests filter, inside the served graph.

Each feature has a *column*: the values of the items in slots (``retrieval.live_items``). The
categories are such a feature too.
"""

import numpy as np
import tensorflow as tf

from contract.live_catalogue import CATEGORIES, filter_column
from model.categories import NO_CATEGORY
from retrieval.growing_variables import grow, growing_variable, pad_last, widen, width
from retrieval.tower import Tower, TowerWithCategories, TowerWithFilters


class NewNames(tf.Module):
    """Values of a categorical feature that were added after the push.

    They are numbered after those of the push.
    """

    def __init__(self, num_pushed: int) -> None:
        """Starts without any; ``num_pushed`` is the number of names in the push."""
        super().__init__(name="new_names")
        self._num_pushed = num_pushed
        self._names = growing_variable(np.zeros([0], object), "new_names", tf.string)
        self._numbers = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.int32, NO_CATEGORY, name="numbers_of_new_names"
        )

    @property
    def names(self) -> tf.Tensor:
        """The names, string [W], in the order of their numbers."""
        return self._names.read_value()

    def numbers(self, names: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns the numbers of ``names``, 0 for unknown ones.

        Args:
          names: string [...].
          pushed: int32 [...], the numbers that the names have in the push; ``NO_CATEGORY`` if
            the push does not have them.
        """
        new = tf.ensure_shape(self._numbers.lookup(names), names.shape)
        return tf.where(pushed != NO_CATEGORY, pushed, new)

    def add(self, names: tf.Tensor) -> None:
        """Assigns the next numbers to ``names``, string [W], none of which may have one yet."""
        first = self.num_names + 1
        self._numbers.insert(names, tf.range(first, first + tf.size(names)))
        self._names.assign(tf.concat([self.names, names], axis=0))

    @property
    def num_names(self) -> tf.Tensor:
        """The number of names, int32 [], including those of the push."""
        return self._num_pushed + tf.size(self.names)


class LiveColumn(tf.Module):
    """The values of one feature of the items in slots.

    Attributes:
      new: The values added after the push; None if the feature is numeric.
    """

    def __init__(self, num_pushed: int, num_names: int | None) -> None:
        """Creates a column without slots.

        Args:
          num_pushed: Number of items in the pushed index, R.
          num_names: Number of values of the feature in the push; None if it is numeric.
        """
        super().__init__(name="live_column")
        self._num_pushed = num_pushed
        self.new = None if num_names is None else NewNames(num_names)
        self._padding = np.float32(np.nan) if num_names is None else np.int32(NO_CATEGORY)
        # One row, so that tf.gather has a row to read before there is a slot.
        self._values = tf.Variable(
            np.zeros([1, 0], self._padding.dtype),
            trainable=False,
            name="live_values",
            shape=[None, None],
        )

    @property
    def dtype(self) -> tf.DType:
        """Type of the values: numbers of names, int32, or numbers, float32."""
        return self._values.dtype

    def write(self, slots: tf.Tensor, values: tf.Tensor, capacity: tf.Tensor) -> None:
        """Writes the values [M, F] of ``slots``, int32 [M]; extends the column to ``capacity``."""
        columns = tf.maximum(width(self._values), tf.shape(values)[1])
        widen(self._values, columns, self._padding)
        grow(self._values, capacity)
        values = pad_last(values, columns - tf.shape(values)[1], self._padding)
        self._values.scatter_update(tf.IndexedSlices(values, slots))

    def at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns the values at the positions of slots, and those of ``pushed`` elsewhere.

        Args:
          positions: int32 [...].
          pushed: [..., F], the values that the positions have in the push.

        Returns:
          [..., G], where G is the larger of F and the width of the column.
        """
        own, given = width(self._values), tf.shape(pushed)[-1]
        values = tf.gather(self._values, tf.maximum(positions - self._num_pushed, 0))
        return tf.where(
            (positions >= self._num_pushed)[..., tf.newaxis],
            pad_last(values, given - own, self._padding),
            pad_last(pushed, own - given, self._padding),
        )


def live_columns(tower: Tower, num_pushed: int) -> dict[str, LiveColumn]:
    """Returns the columns of a version whose catalogue can be changed.

    Args:
      tower: Holds the features as they were pushed.
      num_pushed: Number of items in the pushed index, R.

    Returns:
      A column for the categories, if there are any, and for each feature to filter by, under the
      names in ``contract.live_catalogue``.
    """
    columns = {}
    if isinstance(tower, TowerWithCategories):
        columns[CATEGORIES] = LiveColumn(num_pushed, len(tower.categories.numpy()))
    if isinstance(tower, TowerWithFilters):
        for name in tower.filter_values:
            is_categorical = name in tower.filter_names
            num_names = len(tower.filter_names[name].numpy()) if is_categorical else None
            columns[filter_column(name)] = LiveColumn(num_pushed, num_names)
    return columns
