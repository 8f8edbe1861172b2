"""Candidates of the softmax that are a person's own: the target, and some drawn from the rest."""

from typing import NamedTuple

import tensorflow as tf

from model.network.own_items import OwnItems

_BITS = 32  # of an event's place in a block of sequences


class Prefixes(NamedTuple):
    """Beginnings of sequences, each the history of a target.

    Attributes:
      starts: int32 [P], where the sequence begins in the items of all.
      ends: int32 [P], where the beginning ends: one past its last item.
      targets: int32 [P], where the target is, at the end or after it.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    targets: tf.Tensor


def shortened(prefixes: Prefixes, horizon: int, seed: tf.Tensor) -> Prefixes:
    """Ends each history up to ``horizon - 1`` behaviours earlier, at random.

    Somebody who has just bought milk does not put it into the basket again, but into the next
    one. What is learned of the very next item alone would be that the newest items are the least
    likely, where a request asks for all that comes.

    Args:
      prefixes: The whole histories; a part of each is left, of one item at least.
      horizon: 1 or more.
      seed: int [2].
    """
    share = tf.random.stateless_uniform(tf.shape(prefixes.ends), tf.cast(seed, tf.int32))
    room = tf.minimum(horizon, prefixes.ends - prefixes.starts)
    earlier = tf.minimum(tf.cast(share * tf.cast(room, tf.float32), tf.int32), room - 1)
    return prefixes._replace(ends=prefixes.ends - earlier)


def own_candidates(
    items: tf.Tensor, prefixes: Prefixes, limit: int, number: int, seed: tf.Tensor
) -> OwnItems:
    """Looks up the target among a person's own items, and draws others.

    What is found of an item is what `own_items` finds of the whole history. Drawn are behaviours;
    one of them stands for its item if it is the item's last, so that each of the person's items is
    as likely to be drawn. Somebody with at most ``number`` behaviours has all of them drawn.

    Args:
      items: int32 [M], the items of all sequences, one after the other.
      prefixes: Where the histories and the targets are.
      limit: The newest behaviours of each history that count.
      number: n, behaviours that are drawn.
      seed: int [2].

    Returns:
      Own items [P, 1 + n]. The first column is the target (0 if it is not one of the person's
      own), the others are the draws, without the target.
    """
    place = tf.cast(tf.range(tf.size(items)), tf.int64)
    keys = tf.sort(_key(items, place))  # the occurrences of each item side by side, oldest first
    begin = tf.maximum(prefixes.starts, prefixes.ends - limit)[:, tf.newaxis]  # [P, 1]
    end = prefixes.ends[:, tf.newaxis]
    length = end - begin
    column = tf.range(number)[tf.newaxis, :]
    share = tf.random.stateless_uniform([tf.size(prefixes.ends), number], tf.cast(seed, tf.int32))
    drawn = tf.cast(share * tf.cast(length, tf.float32), tf.int32)
    # The product may be rounded up to the length.
    drawn = tf.where(length <= number, column, tf.minimum(drawn, length - 1))
    is_drawn = column < length
    drawn = begin + tf.where(is_drawn, drawn, 0)  # [P, n]
    target = tf.gather(items, prefixes.targets)[:, tf.newaxis]  # [P, 1]
    asked = tf.concat([target, tf.gather(items, drawn)], axis=1)  # [P, 1 + n]
    first = _place_of(keys, asked, begin)
    after = _place_of(keys, asked, end)  # of the occurrences before the target, one past the last
    count = after - first
    is_own = count > 0  # only a target can be no item of the person's own
    oldest = _place(tf.gather(keys, tf.where(is_own, first, 0)))
    newest = _place(tf.gather(keys, tf.where(is_own, after - 1, 0)))
    others = is_drawn & (newest[:, 1:] == drawn) & (asked[:, 1:] != target)
    is_candidate = tf.concat([is_own[:, :1], others], axis=1)
    return OwnItems(
        items=tf.where(is_candidate, asked, 0),
        count=count,
        first=end - oldest,
        last=end - newest,
        length=tf.broadcast_to(length, tf.shape(asked)),
    )


def log_expected_count(own: OwnItems) -> tf.Tensor:
    """Log of how often each own item is expected among the draws, float32 [P, 1 + n]."""
    number = tf.cast(tf.shape(own.items)[1] - 1, tf.float32)
    return tf.math.log(tf.minimum(1.0, number / tf.cast(tf.maximum(own.length, 1), tf.float32)))


def _key(items: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.left_shift(tf.cast(items, tf.int64), _BITS) + tf.cast(place, tf.int64)


def _place(keys: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.bitwise.bitwise_and(keys, 2**_BITS - 1), tf.int32)


def _place_of(keys: tf.Tensor, items: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Where in ``keys`` the first occurrence of each item at ``place`` or later is, or would be."""
    asked = _key(items, place)
    found = tf.searchsorted(keys, tf.reshape(asked, [-1]), side="left")
    return tf.reshape(found, tf.shape(asked))
