"""Own items: the distinct items of a person's history, with how often and when they occurred."""

from typing import NamedTuple

import tensorflow as tf

_BITS = 32  # bits of the position in a sort key


class OwnItems(NamedTuple):
    """Items that people have had. All tensors have the shape [B, D].

    Attributes:
      items: int32, item indices. 0 marks an empty position, where the other attributes are
        meaningless.
      count: int32, how often the person has had the item.
      first: int32, how many behaviours ago the first occurrence was; 1 is the newest behaviour.
      last: int32, how many behaviours ago the last occurrence was.
      length: int32, the number of behaviours in which occurrences were counted.
    """

    items: tf.Tensor
    count: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    length: tf.Tensor


def own_items(history: tf.Tensor, limit: int) -> OwnItems:
    """Finds the distinct items of each history.

    Example:
      A person who had item 7 twice and item 4 in between:

      >>> own = own_items(tf.constant([[7, 4, 7, 0]]), limit=100)
      >>> own.items.numpy().tolist(), own.count.numpy()[own.items > 0].tolist()
      ([[4, 7]], [1, 2])
      >>> own.first.numpy()[own.items > 0].tolist(), own.last.numpy()[own.items > 0].tolist()
      ([2, 3], [2, 1])

    Args:
      history: int32 [B, T], item indices, oldest first, 0 only at the end.
      limit: Only this many of each person's newest behaviours are counted.

    Returns:
      Own items [B, D]: the items of each row in ascending order, then zeros. D is the largest
      number of distinct items in a row.
    """
    width = tf.shape(history)[1]
    whole = tf.math.count_nonzero(history, axis=1, keepdims=True, dtype=tf.int32)  # [B, 1]
    # Sorting by item and position puts the occurrences of an item side by side, oldest first.
    column = tf.range(width)[tf.newaxis, :]
    is_counted = (history > 0) & (column >= whole - limit)
    items = tf.where(is_counted, history, tf.int32.max)
    keys = tf.bitwise.left_shift(tf.cast(items, tf.int64), _BITS) + tf.cast(column, tf.int64)
    keys = tf.sort(keys, axis=1)
    items = tf.cast(tf.bitwise.right_shift(keys, _BITS), tf.int32)  # [B, T]
    place = tf.cast(tf.bitwise.bitwise_and(keys, 2**_BITS - 1), tf.int32)
    begin = tf.searchsorted(items, items, side="left")
    end = tf.searchsorted(items, items, side="right")
    is_item = (begin == column) & (items < tf.int32.max)
    # Keep only the first occurrence of each item, and move these to the front.
    number = tf.reduce_max(tf.math.count_nonzero(is_item, axis=1, dtype=tf.int32))
    order = tf.argsort(tf.where(is_item, 0, 1), axis=1, stable=True)[:, :number]
    newest = tf.gather(place, end - 1, batch_dims=1)
    found = OwnItems(
        items=tf.where(is_item, items, 0),
        count=end - begin,
        first=whole - place,
        last=whole - newest,
        length=tf.broadcast_to(tf.minimum(whole, limit), tf.shape(items)),
    )
    return OwnItems(*(tf.gather(part, order, batch_dims=1) for part in found))
