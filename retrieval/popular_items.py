"""The items that occur most often in train, for people without a history."""

import numpy as np
import tensorflow as tf

from retrieval.filters import Selection
from retrieval.fixed_items import FixedItems
from retrieval.live_items import LiveItems
from retrieval.ranking import best_distinct, count_distinct, together
from retrieval.search import ANY_CANDIDATES, Candidates

# With filters, at least this many items are checked in each step.
_ITEMS_PER_STEP = 1 << 13


class PopularItems(tf.Module):
    """Ranks items by their counts in train.

    Attributes:
      counts: float32 [R], how often each pushed item occurs in train.
    """

    def __init__(self, counts: np.ndarray, live: LiveItems | FixedItems) -> None:
        """Orders the items by count.

        Args:
          counts: [R], how often each item that can be found occurs in train.
          live: The changes since the push.
        """
        super().__init__(name="popular_items")
        self._live = live
        self.counts = tf.Variable(counts.astype(np.float32), trainable=False, name="counts")
        order = np.argsort(-counts, kind="stable").astype(np.int32)
        self._order = tf.Variable(order, trainable=False, name="by_count")

    def best(
        self,
        wanted: tf.Tensor,
        excluded: tf.Tensor,
        width: tf.Tensor,
        selection: Selection | None = None,
    ) -> Candidates:
        """Returns the items that occur most often in train, scored by their counts.

        Items added since the push have a count of 0 and come last.

        Args:
          wanted: int32 [B], number of items that each row needs; rows that need none may still
            get some.
          excluded: int32 [B, X], positions to leave out; -1 is padding.
          width: int32 [], the largest of ``wanted``.
          selection: The items that filters allow; None allows all.

        Returns:
          Candidates [B, width], best first, padded with -1 and -inf.
        """
        batch = tf.shape(excluded)[0]
        num_items = tf.size(self._order)
        num_excluded = tf.reduce_max(tf.pad(count_distinct(excluded), [[0, 1]]))
        depth = width + num_excluded
        step = depth + self._live.num_replaced
        if selection is not None:
            step = tf.maximum(step, _ITEMS_PER_STEP)

        def is_open(start: tf.Tensor, found: Candidates) -> tf.Tensor:
            num_found = tf.math.count_nonzero(found.positions >= 0, axis=1, dtype=tf.int32)
            return (start < num_items) & tf.reduce_any(num_found < wanted)

        def look_further(start: tf.Tensor, found: Candidates) -> tuple[tf.Tensor, Candidates]:
            positions = self._order[start : start + step]  # [n]
            fits = (self._live.current(positions) == positions)[tf.newaxis]
            if selection is not None:
                fits &= selection.allows_of_all(positions)
            scores = tf.gather(self.counts, positions)
            scores = tf.where(tf.broadcast_to(fits, [batch, tf.size(positions)]), scores, -np.inf)
            first = tf.math.top_k(scores, tf.minimum(depth, tf.size(positions)))
            positions = tf.gather(positions, first.indices)
            more = Candidates(tf.where(first.values > -np.inf, positions, -1), first.values)
            return start + step, best_distinct(together(found, more), excluded, width)

        _, found = tf.while_loop(
            is_open,
            look_further,
            (tf.constant(0), Candidates.none(batch, width)),
            parallel_iterations=1,
            shape_invariants=(tf.TensorShape([]), ANY_CANDIDATES),
        )
        allowed = selection.allows_of_all if selection is not None else None
        slots = self._live.popular(batch, depth, allowed)
        if slots is None:
            return found
        return best_distinct(together(found, slots), excluded, width)
