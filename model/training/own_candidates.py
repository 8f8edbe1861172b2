"""Softmax candidates from a person's own items: the target and a random sample of the others."""

from typing import NamedTuple

import tensorflow as tf

from model.network.own_items import OwnItems

_BITS = 32  # bits of an event's position in the sort keys of a block of sequences


class Prefixes(NamedTuple):
    """Prefixes of sequences, each of which is the history of a target.

    All positions count from the first item of the concatenated sequences.

    Attributes:
      starts: int32 [P], the position of the first item of the sequence.
      ends: int32 [P], one past the position of the last item of the prefix.
      targets: int32 [P], the position of the target: the prefix's end or later.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    targets: tf.Tensor


def shortened(prefixes: Prefixes, horizon: int, seed: tf.Tensor) -> Prefixes:
    """Shortens each history by a random number of behaviours from 0 to ``horizon - 1``.

    A person who has just bought milk does not add it to the same basket again, but does add it to
    the next one. A model that learned from the very next item only would rank the newest items
    lowest, although a request asks for everything that the person will have soon.

    Args:
      prefixes: The whole histories. At least one item of each is kept.
      horizon: 1 or more; 1 keeps the whole histories.
      seed: int [2].
    """
    share = tf.random.stateless_uniform(tf.shape(prefixes.ends), tf.cast(seed, tf.int32))
    room = tf.minimum(horizon, prefixes.ends - prefixes.starts)
    earlier = tf.minimum(tf.cast(share * tf.cast(room, tf.float32), tf.int32), room - 1)
    return prefixes._replace(ends=prefixes.ends - earlier)


def own_candidates(
    items: tf.Tensor, prefixes: Prefixes, limit: int, number: int, seed: tf.Tensor
) -> OwnItems:
    """Looks up the target among a person's own items and draws others at random.

    The counts and positions of an item are those that `own_items` finds in the same history. The
    draws are behaviours, with replacement. A drawn behaviour becomes a candidate only if it is the
    last occurrence of its item, so that every own item is equally likely to be drawn. If a person
    has at most ``number`` behaviours, all of them are drawn once.

    Args:
      items: int32 [M], the items of all sequences, concatenated.
      prefixes: Positions of the histories and targets.
      limit: Only this many of the newest behaviours of each history are counted.
      number: n, the number of behaviours to draw.
      seed: int [2].

    Returns:
      Own items [P, 1 + n]. The first column is the target, or 0 if the person has not had it. The
      other columns are the draws, with 0 in place of the target and of rejected draws.
    """
    place = tf.cast(tf.range(tf.size(items)), tf.int64)
    keys = tf.sort(_key(items, place))  # puts occurrences of an item side by side, oldest first
    begin = tf.maximum(prefixes.starts, prefixes.ends - limit)[:, tf.newaxis]  # [P, 1]
    end = prefixes.ends[:, tf.newaxis]
    length = end - begin
    column = tf.range(number)[tf.newaxis, :]
    share = tf.random.stateless_uniform([tf.size(prefixes.ends), number], tf.cast(seed, tf.int32))
    drawn = tf.cast(share * tf.cast(length, tf.float32), tf.int32)
    # Rounding may make the product equal to the length, which is one past the last position.
    drawn = tf.where(length <= number, column, tf.minimum(drawn, length - 1))
    is_drawn = column < length
    drawn = begin + tf.where(is_drawn, drawn, 0)  # [P, n]
    target = tf.gather(items, prefixes.targets)[:, tf.newaxis]  # [P, 1]
    asked = tf.concat([target, tf.gather(items, drawn)], axis=1)  # [P, 1 + n]
    first = _place_of(keys, asked, begin)
    after = _place_of(keys, asked, end)  # one past the item's last occurrence in the history
    count = after - first
    is_own = count > 0  # False only for targets: every draw comes from the history
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
    """Log of the expected number of times that each own item is drawn, float32 [P, 1 + n]."""
    number = tf.cast(tf.shape(own.items)[1] - 1, tf.float32)
    return tf.math.log(tf.minimum(1.0, number / tf.cast(tf.maximum(own.length, 1), tf.float32)))


def _key(items: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.left_shift(tf.cast(items, tf.int64), _BITS) + tf.cast(place, tf.int64)


def _place(keys: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.bitwise.bitwise_and(keys, 2**_BITS - 1), tf.int32)


def _place_of(keys: tf.Tensor, items: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Returns the index in ``keys`` of each item's first occurrence at or after ``place``.

    If there is none, it is the index at which that occurrence would be inserted.
    """
    asked = _key(items, place)
    found = tf.searchsorted(keys, tf.reshape(asked, [-1]), side="left")
    return tf.reshape(found, tf.shape(asked))
