"""The best possible scores, computed with NumPy in bounded memory, to measure an index against."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from retrieval.tower import blocks

_PEOPLE_AT_ONCE = 32


def exact_scores(
    vectors: tf.Variable,
    interests: np.ndarray,
    mask: np.ndarray,
    excluded: Sequence[np.ndarray],
    k: int,
) -> np.ndarray:
    """Returns the ``k`` largest scores for each person, [P, k], best first, padded with -inf.

    The vectors are read once, block by block. In each block only scores above the k-th best so far
    are sorted, so that nearly all of the time goes into the dot products.

    Args:
      vectors: float32 [N, d]; zero vectors cannot be found.
      interests: float32 [P, K, d].
      mask: bool [P, K], the active interests; people without any find nothing.
      excluded: For each person the rows of ``vectors`` to leave out; negative values are ignored.
      k: Number of scores per person, at least 1.
    """
    inactive = np.where(mask, 0.0, -np.inf).astype(np.float32)[:, :, np.newaxis]
    best = np.full([len(interests), k], -np.inf, np.float32)
    for start, items in blocks(vectors):
        is_hidden = ~items.any(axis=1)
        for first in range(0, len(interests), _PEOPLE_AT_ONCE):
            group = slice(first, first + _PEOPLE_AT_ONCE)
            by_interest = np.tensordot(interests[group], items, axes=(2, 1))  # [P', K, n]
            by_interest += inactive[group]
            scores = by_interest.max(axis=1)
            scores[:, is_hidden] = -np.inf
            for row, own in enumerate(scores, first):
                rows = excluded[row] - start
                own[rows[(rows >= 0) & (rows < len(own))]] = -np.inf
                better = own[own > best[row, -1]]
                if better.size:
                    best[row] = np.sort(np.concatenate([best[row], better]))[: -k - 1 : -1]
    return best
