"""Ranks items for people: distinct ones, without the excluded ones, best first."""

import numpy as np
import tensorflow as tf

from components.index_builder.search import Candidates, ExactSearch, Search


def rank(
    search: Search, interests: tf.Tensor, mask: tf.Tensor, excluded: tf.Tensor, k: tf.Tensor
) -> Candidates:
    """Returns the ``k`` best items that are not excluded, best first.

    Fewer than ``k`` only where fewer exist: if an approximate search finds too
    few, the batch is searched exactly.

    Args:
      search: Where to search.
      interests: float32 [B, K, d].
      mask: bool [B, K], the active interests.
      excluded: int32 [B, X] positions; -1 is none.
      k: int32 [].

    Returns:
      Candidates [B, k], filled up with -1 and -inf.
    """
    found = rank_once(search, interests, mask, excluded, k)
    if isinstance(search, ExactSearch):
        return found
    num_found = tf.reduce_sum(tf.cast(found.positions >= 0, tf.int32), axis=1)
    num_items = tf.shape(search.vectors)[0]
    is_full = num_found >= tf.minimum(k, num_items - count_distinct(excluded))
    exact = ExactSearch(search.vectors)
    return tf.cond(
        tf.reduce_all(is_full | ~tf.reduce_any(mask, axis=1)),
        lambda: found,
        lambda: rank_once(exact, interests, mask, excluded, k),
    )


def rank_once(
    search: Search, interests: tf.Tensor, mask: tf.Tensor, excluded: tf.Tensor, k: tf.Tensor
) -> Candidates:
    """As ``rank``, but an approximate search may find fewer than exist."""
    num_items = tf.shape(search.vectors)[0]
    # Over-fetch, so that k remain after the exclusions.
    num_excluded = tf.reduce_max(tf.pad(count_distinct(excluded), [[0, 1]]))
    depth = tf.minimum(k + num_excluded, num_items)
    return best_distinct(search.candidates(interests, mask, depth, k), excluded, k)


def best_distinct(candidates: Candidates, excluded: tf.Tensor, k: tf.Tensor) -> Candidates:
    """Returns the ``k`` best distinct candidates that are not excluded, best first.

    An item found several times keeps its largest score: the merge over
    interests. The cost is that of sorting, whatever the number of exclusions.

    Args:
      candidates: Any order, with repetitions.
      excluded: int32 [B, X], positions to leave out; -1 is none.
      k: int32 [], width of the result.

    Returns:
      Candidates [B, k], filled up with -1 and -inf.
    """
    num_excluded = tf.shape(excluded)[1]
    order = tf.argsort(candidates.scores, axis=1, direction="DESCENDING")
    scores = tf.gather(candidates.scores, order, batch_dims=1)
    positions = tf.concat(
        [excluded, tf.gather(candidates.positions, order, batch_dims=1)], axis=1
    )  # [B, X + M]; the first occurrence of an item decides about it
    width = tf.shape(positions)[1]
    column = tf.range(width, dtype=tf.int64)
    # Item and column as one key: sorting groups items, first occurrence first.
    keys = tf.sort(tf.cast(positions, tf.int64) * tf.cast(width, tf.int64) + column, axis=1)
    items = tf.math.floordiv(keys, tf.cast(width, tf.int64))
    is_first = tf.pad(items[:, 1:] != items[:, :-1], [[0, 0], [1, 0]], constant_values=True)
    columns = tf.cast(tf.math.floormod(keys, tf.cast(width, tf.int64)), tf.int32)
    is_candidate = (columns >= num_excluded) & (items >= 0) & is_first
    scores = tf.concat([tf.fill(tf.shape(excluded), -np.inf), scores], axis=1)
    scores = tf.where(is_candidate, tf.gather(scores, columns, batch_dims=1), -np.inf)
    # Room for k columns even if there are fewer candidates.
    scores = tf.pad(scores, [[0, 0], [0, k]], constant_values=-np.inf)
    items = tf.pad(tf.cast(items, tf.int32), [[0, 0], [0, k]], constant_values=-1)
    top = tf.math.top_k(scores, k)
    found = tf.gather(items, top.indices, batch_dims=1)
    return Candidates(tf.where(top.values > -np.inf, found, -1), top.values)


def count_distinct(positions: tf.Tensor) -> tf.Tensor:
    """Returns int32 [B]: the distinct values of each row of [B, X] that are not -1."""
    ordered = tf.sort(positions, axis=1)
    is_new = tf.pad(ordered[:, 1:] != ordered[:, :-1], [[0, 0], [1, 0]], constant_values=True)
    is_new = is_new[:, : tf.shape(ordered)[1]]  # a row of width 0 stays of width 0
    return tf.reduce_sum(tf.cast(is_new & (ordered >= 0), tf.int32), axis=1)
