"""Exact search among listed items; its cost grows with the lists, not with the catalogue."""

import numpy as np
import tensorflow as tf

from contract.manifest import ALGORITHM, EXACT
from retrieval.filters import Selection
from retrieval.search import Candidates

# Floats of gathered vectors in memory at once (16 MiB of float32 for each of two rows).
_NUMBERS_PER_BLOCK = 1 << 22
# Rows that are searched at the same time; more would take more memory without being faster.
_PARALLEL_ROWS = 2


class ListSearch:
    """Scores the items that a selection lists for each row; a ``Search``."""

    def __init__(self, vectors: tf.Variable, selection: Selection) -> None:
        """Makes a search of the ``vectors``, float32 [R, d], that ``selection`` allows."""
        self.vectors = vectors
        self._selection = selection

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        return {ALGORITHM: EXACT}

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """See ``Search``; returns distinct items, best first, padded with -1 and -inf."""
        del k
        batch = tf.shape(mask)[0]
        inactive = tf.where(mask, 0.0, -np.inf)  # [B, K]

        def search_row(
            row: tf.Tensor, positions: tf.TensorArray, scores: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
            listed = self._selection.listed(row)
            best = best_of(self.vectors, listed, interests[row], inactive[row], depth)
            return row + 1, positions.write(row, best.positions), scores.write(row, best.scores)

        _, positions, scores = tf.while_loop(
            lambda row, *_: row < batch,
            search_row,
            (
                tf.constant(0),
                tf.TensorArray(tf.int32, batch, element_shape=[None]),
                tf.TensorArray(tf.float32, batch, element_shape=[None]),
            ),
            parallel_iterations=_PARALLEL_ROWS,
        )
        shape = [batch, depth]
        return Candidates(tf.reshape(positions.stack(), shape), tf.reshape(scores.stack(), shape))


def best_of(
    vectors: tf.Variable,
    listed: tf.Tensor,
    interests: tf.Tensor,
    inactive: tf.Tensor,
    depth: tf.Tensor,
) -> Candidates:
    """Returns the ``depth`` best listed items for one person.

    Args:
      vectors: float32 [R, d].
      listed: int32 [L], distinct positions.
      interests: float32 [K, d].
      inactive: float32 [K], added to the scores: 0, or -inf for inactive interests.
      depth: int32 [], number of candidates.

    Returns:
      Candidates [depth], best first, padded with -1 and -inf.
    """
    block = max(_NUMBERS_PER_BLOCK // vectors.shape[1], 1)
    # Read the whole variable: after a sparse read, every read of the whole variable copies it.
    values = vectors.read_value()

    def score_block(start: tf.Tensor, best: Candidates) -> tuple[tf.Tensor, Candidates]:
        positions = listed[start : start + block]
        dots = tf.matmul(tf.gather(values, positions), interests, transpose_b=True)  # [n, K]
        scores = tf.concat([best.scores, tf.reduce_max(dots + inactive, axis=1)], axis=0)
        top = tf.math.top_k(scores, depth)
        positions = tf.gather(tf.concat([best.positions, positions], axis=0), top.indices)
        return start + block, Candidates(positions, top.values)

    _, best = tf.while_loop(
        lambda start, _: start < tf.size(listed),
        score_block,
        (tf.constant(0), Candidates(tf.fill([depth], -1), tf.fill([depth], -np.inf))),
        parallel_iterations=1,
        shape_invariants=(
            tf.TensorShape([]),
            Candidates(tf.TensorShape([None]), tf.TensorShape([None])),
        ),
    )
    # Without an active interest all scores are -inf, and such items are not candidates.
    return Candidates(tf.where(best.scores > -np.inf, best.positions, -1), best.scores)
