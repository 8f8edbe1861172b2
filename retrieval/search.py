"""Search over item vectors inside the served graph: the interfaces, and the exact search.

``retrieval.scann_search`` has the approximate search. Both answer the same question: which items
have the largest ``max_k u_k . e_i`` over a person's active interests? They return candidates, and
``retrieval.ranking`` turns these into the final list.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from contract.manifest import ALGORITHM, EXACT

# Floats that one step of an exact scoring holds in memory (64 MiB of float32).
SCORES_PER_BLOCK = 1 << 24


class Candidates(NamedTuple):
    """The items that a search found.

    Attributes:
      positions: int32 [B, M], rows of the searched vectors; -1 is no candidate.
      scores: float32 [B, M], the best dot product found; -inf for no candidate.
    """

    positions: tf.Tensor
    scores: tf.Tensor

    @classmethod
    def none(cls, batch: tf.Tensor, width: tf.Tensor) -> "Candidates":
        """Returns [batch, width] of padding; ``batch`` and ``width`` are int32 []."""
        return cls(tf.fill([batch, width], -1), tf.fill([batch, width], -np.inf))


# Shapes of candidates in a loop, whose numbers change.
ANY_CANDIDATES = Candidates(tf.TensorShape([None, None]), tf.TensorShape([None, None]))


class Search(Protocol):
    """Finds the items with the highest scores for any of a person's interests.

    Attributes:
      vectors: float32 [R, d], the items that can be found.
    """

    vectors: tf.Variable

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """Returns the ``depth`` best items per row; an item may occur more than once.

        Args:
          interests: float32 [B, K, d].
          mask: bool [B, K], the active interests.
          depth: int32 [], number of distinct items, including those that will be
            excluded later; at most R.
          k: int32 [], number of items that will be shown; a large ``k`` widens an
            approximate search.
        """

    def describe(self) -> dict[str, int | float | str]:
        """Returns the algorithm and its parameters, for the manifest."""


class CatalogueSearch(Search, Protocol):
    """A search of the whole catalogue.

    Attributes:
      is_exact: Whether it always finds the best items.
    """

    is_exact: bool

    def num_items(self) -> tf.Tensor:
        """Returns int32 [], the number of items that can be found."""

    def exact(self) -> "CatalogueSearch":
        """Returns an exact search for the same items."""


@runtime_checkable
class ApproximateSearch(Search, Protocol):
    """A search that may miss items."""

    def is_thorough(self, k: tf.Tensor) -> tf.Tensor:
        """Returns bool [], whether a search that shows ``k`` items considers all items."""


class ExactSearch(tf.Module):
    """Scores every item, block by block, with plain TensorFlow ops."""

    is_exact = True

    def __init__(self, vectors: tf.Variable) -> None:
        """Makes a search of ``vectors``, float32 [R, d]."""
        super().__init__(name="exact_search")
        self.vectors = vectors

    def num_items(self) -> tf.Tensor:
        """See ``CatalogueSearch``."""
        return tf.shape(self.vectors)[0]

    def exact(self) -> "ExactSearch":
        """See ``CatalogueSearch``."""
        return self

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        return {ALGORITHM: EXACT}

    def candidates(
        self,
        interests: tf.Tensor,
        mask: tf.Tensor,
        depth: tf.Tensor,
        k: tf.Tensor,
        allowed: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ) -> Candidates:
        """See ``Search``; returns exactly ``depth`` distinct items per row, best first.

        ``allowed``, if given, is called with the first position and the size n of
        a block of items, both int32 []. It returns which of them each row may have,
        bool [B, n]; the others get a score of -inf.
        """
        del k
        num_items = tf.shape(self.vectors)[0]
        batch, num_interests = tf.unstack(tf.shape(mask))
        queries = tf.reshape(interests, [-1, self.vectors.shape[1]])  # [B*K, d]
        inactive = tf.where(mask, 0.0, -np.inf)[:, :, tf.newaxis]  # [B, K, 1]
        block = tf.maximum(SCORES_PER_BLOCK // tf.maximum(batch * num_interests, 1), 1)

        def search_block(start: tf.Tensor, best: Candidates) -> tuple[tf.Tensor, Candidates]:
            items = self.vectors[start : start + block]  # [n, d]
            num_block = tf.shape(items)[0]
            scores = tf.matmul(queries, items, transpose_b=True)  # [B*K, n]
            scores = tf.reshape(scores, [batch, num_interests, num_block]) + inactive
            # Take the maximum over interests first, so that an item occurs only once.
            best_score = tf.reduce_max(scores, axis=1)  # [B, n]
            if allowed is not None:
                best_score = tf.where(allowed(start, num_block), best_score, -np.inf)
            found = tf.math.top_k(best_score, tf.minimum(depth, num_block))
            scores = tf.concat([best.scores, found.values], axis=1)
            positions = tf.concat([best.positions, start + found.indices], axis=1)
            kept = tf.math.top_k(scores, depth)
            positions = tf.gather(positions, kept.indices, batch_dims=1)
            return start + block, Candidates(positions, kept.values)

        _, best = tf.while_loop(
            lambda start, _: start < num_items,
            search_block,
            (tf.constant(0), Candidates.none(batch, depth)),
            parallel_iterations=1,
            shape_invariants=(tf.TensorShape([]), ANY_CANDIDATES),
        )
        return best
