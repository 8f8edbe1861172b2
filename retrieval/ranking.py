"""Ranks items for people: distinct items, without the excluded ones, best first."""

import numpy as np
import tensorflow as tf

from retrieval.search import Candidates, CatalogueSearch, Search

_BITS = np.int64(32)  # size of a score
_MAX = np.int32(2**31 - 1)


def rank(
    search: CatalogueSearch,
    interests: tf.Tensor,
    mask: tf.Tensor,
    excluded: tf.Tensor,
    k: tf.Tensor,
    more: Candidates | None = None,
) -> Candidates:
    """Returns the ``k`` best items that are not excluded, best first.

    There are fewer than ``k`` only if no more exist: if an approximate search finds too few items
    for a person, that person gets the answer of an exact search. The others keep their answers.

    Args:
      search: The search to use.
      interests: float32 [B, K, d].
      mask: bool [B, K], the active interests.
      excluded: int32 [B, X], positions to leave out; -1 is padding.
      k: int32 [], number of items.
      more: Candidates from other sources, [B, M]; None if there are none.

    Returns:
      Candidates [B, k], padded with -1 and -inf.
    """
    found = rank_once(search, interests, mask, excluded, k, more)
    if search.is_exact:
        return found
    num_found = tf.reduce_sum(tf.cast(found.positions >= 0, tf.int32), axis=1)
    is_full = num_found >= tf.minimum(k, search.num_items() - count_distinct(excluded))
    is_full |= ~tf.reduce_any(mask, axis=1)

    def completed() -> Candidates:
        exact = rank_once(search.exact(), interests, mask, excluded, k, more)
        return Candidates(
            tf.where(is_full[:, tf.newaxis], found.positions, exact.positions),
            tf.where(is_full[:, tf.newaxis], found.scores, exact.scores),
        )

    return tf.cond(tf.reduce_all(is_full), lambda: found, completed)


def rank_once(
    search: Search,
    interests: tf.Tensor,
    mask: tf.Tensor,
    excluded: tf.Tensor,
    k: tf.Tensor,
    more: Candidates | None = None,
) -> Candidates:
    """Ranks as ``rank`` does, but without an exact search for people with too few items."""
    # Fetch more than k, so that k remain without the excluded items.
    num_excluded = tf.reduce_max(tf.pad(count_distinct(excluded), [[0, 1]]))
    depth = tf.minimum(k + num_excluded, tf.shape(search.vectors)[0])
    found = search.candidates(interests, mask, depth, k)
    return best_distinct(together(found, more), excluded, k)


def together(found: Candidates, more: Candidates | None) -> Candidates:
    """Returns the candidates of both arguments, [B, M + M']."""
    if more is None:
        return found
    return Candidates(
        tf.concat([found.positions, more.positions], axis=1),
        tf.concat([found.scores, more.scores], axis=1),
    )


def best_distinct(candidates: Candidates, excluded: tf.Tensor, k: tf.Tensor) -> Candidates:
    """Returns the ``k`` best distinct candidates that are not excluded, best first.

    An item that was found several times, for several interests, keeps its largest score. The
    cost is that of sorting all candidates and exclusions.

    Args:
      candidates: Candidates in any order; items may occur repeatedly.
      excluded: int32 [B, X], positions to leave out; -1 is padding.
      k: int32 [], width of the result.

    Returns:
      Candidates [B, k], padded with -1 and -inf.
    """
    positions = tf.concat([excluded, candidates.positions], axis=1)  # [B, X + M]
    ranks = _descending(candidates.scores)
    # Combine item and rank in one key. Sorting the keys groups them by item, with the best score
    # first; an exclusion has rank 0 and so comes before any score.
    ranks = tf.concat([tf.zeros(tf.shape(excluded), tf.int64), ranks], axis=1)
    keys = tf.sort(tf.bitwise.left_shift(tf.cast(positions, tf.int64), _BITS) + ranks, axis=1)
    items = tf.bitwise.right_shift(keys, _BITS)  # keeps the sign
    ranks = keys - tf.bitwise.left_shift(items, _BITS)
    is_first = tf.pad(items[:, 1:] != items[:, :-1], [[0, 0], [1, 0]], constant_values=True)
    is_candidate = (ranks > 0) & (items >= 0) & is_first
    scores = tf.where(is_candidate, _scores(ranks), -np.inf)
    # Pad by k columns, because top_k needs at least k.
    scores = tf.pad(scores, [[0, 0], [0, k]], constant_values=-np.inf)
    items = tf.pad(tf.cast(items, tf.int32), [[0, 0], [0, k]], constant_values=-1)
    top = tf.math.top_k(scores, k)
    found = tf.gather(items, top.indices, batch_dims=1)
    return Candidates(tf.where(top.values > -np.inf, found, -1), top.values)


def _descending(scores: tf.Tensor) -> tf.Tensor:
    """Maps float32 scores (no NaN) to int64 from 1 to 2^32 - 1, smaller ones for larger scores."""
    bits = tf.bitcast(scores, tf.int32)
    # Read as integers, the bits of positive floats have the order of the floats, and those of
    # negative floats the reverse order.
    ordered = tf.where(bits >= 0, bits, tf.bitwise.bitwise_xor(bits, _MAX))
    return tf.cast(_MAX, tf.int64) - tf.cast(ordered, tf.int64)


def _scores(ranks: tf.Tensor) -> tf.Tensor:
    """Inverse of ``_descending``."""
    ordered = tf.cast(tf.cast(_MAX, tf.int64) - ranks, tf.int32)
    bits = tf.where(ordered >= 0, ordered, tf.bitwise.bitwise_xor(ordered, _MAX))
    return tf.bitcast(bits, tf.float32)


def count_distinct(positions: tf.Tensor) -> tf.Tensor:
    """Returns int32 [B], the number of distinct values in each row of [B, X], not counting -1."""
    ordered = tf.sort(positions, axis=1)
    is_new = tf.pad(ordered[:, 1:] != ordered[:, :-1], [[0, 0], [1, 0]], constant_values=True)
    is_new = is_new[:, : tf.shape(ordered)[1]]  # a row of width 0 stays of width 0
    return tf.reduce_sum(tf.cast(is_new & (ordered >= 0), tf.int32), axis=1)
