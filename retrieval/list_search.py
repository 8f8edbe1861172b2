"""Exact search among the items of lists: its work grows with the lists, not with the catalogue."""

import numpy as np
import tensorflow as tf

from contract.manifest import ALGORITHM, EXACT
from retrieval.filters import Selection
from retrieval.search import Candidates

# Numbers of vectors that are held at once (16 MiB of float32 for each of two rows).
_NUMBERS_PER_BLOCK = 1 << 22
# Rows that are searched at the same time: more would hold more memory and be no faster.
_PARALLEL_ROWS = 2


class ListSearch:
    """Scores the items that a selection lists for each row; a ``Search``."""

    def __init__(self, vectors: tf.Variable, selection: Selection) -> None:
        """Searches what ``selection`` allows of ``vectors``, float32 [R, d]."""
        self.vectors = vectors
        self._selection = selection

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        return {ALGORITHM: EXACT}

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """See ``Search``; distinct items, best first, filled up with -1 and -inf."""
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
    """Returns the ``depth`` best of the listed items for one person.

    Args:
      vectors: float32 [R, d].
      listed: int32 [L], distinct positions.
      interests: float32 [K, d].
      inactive: float32 [K], added to the scores: 0, or -inf for interests that do not count.
      depth: int32 [].

    Returns:
      Candidates [depth], best first, filled up with -1 and -inf.
    """
    block = max(_NUMBERS_PER_BLOCK // vectors.shape[1], 1)
    # Read whole: a sparse read turns every later whole read into a copy of the variable.
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
    # An item that no active interest scores is none.
    return Candidates(tf.where(best.scores > -np.inf, best.positions, -1), best.scores)
