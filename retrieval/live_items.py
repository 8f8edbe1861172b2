"""Items that were added, changed or removed after the push, inside the served graph.

A push fixes vocabulary, vectors and index. What happens to the catalogue afterwards is kept
beside them, in variables that ``apply`` changes while the version serves: a *slot* for every item
that was added or changed, and for every pushed item whether its slot, or nothing, has taken its
place. The position of an item in a slot is the number of pushed items plus the slot.

Every change costs work in proportion to the change. So the variables that grow with the items
(all that are indexed by slot, and ``_replaced_by``) are read by ``tf.gather`` on the variable and
written by scattering, never read whole where it matters: after a scattering TensorFlow copies a
variable for every whole read.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from contract.live_catalogue import AS_PUSHED
from model.categories import NO_CATEGORY
from retrieval.leaves import Leaves
from retrieval.search import Candidates


class Page(NamedTuple):
    """A part of the slots: ids and titles, string [L], and counts in train, int64 [L]."""

    ids: tf.Tensor
    titles: tf.Tensor
    counts: tf.Tensor


class LiveItems(tf.Module):
    """The changes since the push. Nothing has changed when it is made.

    Who calls ``apply`` must see to it that nothing else runs in the meantime: a request reads
    several of the variables, and has to find them of one time.

    Attributes:
      num_pushed: Number of positions before the first slot, R.
      is_used: bool [], whether ``apply`` was ever called.
      num_replaced: int32 [], pushed items that are not found at their position any more.
      num_found: int32 [], slots that can be found.
      num_leaves: Partitions by which slots are ordered, C; 0 is none.
    """

    def __init__(
        self, num_pushed: int, dimensions: int, leaves: Leaves | None, has_categories: bool
    ) -> None:
        """Makes the variables.

        Args:
          num_pushed: Items of the pushed index, R.
          dimensions: Length of a vector, d.
          leaves: The partitions of the index, of which the nearest are searched; if there are
            none, all slots are scored.
          has_categories: Whether items have categories.
        """
        super().__init__(name="live_items")
        self.num_pushed = num_pushed
        self.num_leaves = len(leaves.centroids) if leaves else 0
        self._leaves_to_search = leaves.to_search if leaves else None
        centroids = leaves.centroids if leaves else np.zeros([0, dimensions], np.float32)
        self._centroids = _variable(centroids, "live_centroids")
        self._has_categories = has_categories
        self.is_used = _variable(np.array(False), "live_is_used")
        self.num_replaced = _variable(np.array(0, np.int32), "live_num_replaced")
        self.num_found = _variable(np.array(0, np.int32), "live_num_found")
        self._replaced_by = _variable(
            np.full([num_pushed], AS_PUSHED, np.int32), "live_replaced_by"
        )
        self._slots = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.int32, -1, name="live_slots_of_ids"
        )
        # Of one row, so that there is something to gather before there is a slot.
        self._ids = _variable(np.array([""], object), "live_ids", tf.string)
        self._titles = _variable(np.array([""], object), "live_titles", tf.string)
        self._vectors = _variable(np.zeros([1, dimensions], np.float32), "live_vectors")
        self._counts = _variable(np.zeros([1], np.float32), "live_counts")
        self._categories = tf.Variable(
            np.zeros([1, 0], np.int32), trainable=False, name="live_categories", shape=[None, None]
        )
        # Slots by the leaf that is nearest to their vector, where each leaf starts, and slots
        # that are not yet in that order; -1 is a slot that is not found any more.
        self._order = _variable(np.zeros([0], np.int32), "live_order")
        self._starts = _variable(np.zeros([self.num_leaves + 1], np.int32), "live_starts")
        self._fresh = _variable(np.zeros([0], np.int32), "live_fresh")

    def apply(
        self,
        slots: tf.Tensor,
        ids: tf.Tensor,
        titles: tf.Tensor,
        vectors: tf.Tensor,
        counts: tf.Tensor,
        categories: tf.Tensor,
        freed_ids: tf.Tensor,
        positions: tf.Tensor,
        replaced_by: tf.Tensor,
        num_replaced: tf.Tensor,
        order: tf.Tensor,
        starts: tf.Tensor,
        fresh: tf.Tensor,
    ) -> None:
        """Makes changes. The caller says where everything is; nothing is checked.

        Args:
          slots: int32 [M], slots that are written.
          ids: string [M].
          titles: string [M].
          vectors: float32 [M, d].
          counts: float32 [M], popularity: the count in train of the item that was changed.
          categories: int32 [M, F]; F is 0 if items have none.
          freed_ids: string [G], ids that have no slot any more.
          positions: int32 [P], pushed items of which ``replaced_by`` tells.
          replaced_by: int32 [P], the slot, ``AS_PUSHED`` or ``REMOVED``.
          num_replaced: int32 [], pushed items that are not ``AS_PUSHED``, after the change.
          order: int32 [S], slots in the order of their leaves; -1 is none.
          starts: int32 [C + 1], where each leaf starts in ``order``.
          fresh: int32 [F], slots that are not in ``order``; -1 is none.
        """
        size = _rows(self._ids)
        needed = tf.reduce_max(tf.concat([slots, [-1]], axis=0)) + 1
        # Doubled, so that growing costs no more than the items that were added.
        capacity = tf.where(needed > size, tf.maximum(needed, 2 * size), size)
        rows = [
            (self._ids, ids),
            (self._titles, titles),
            (self._vectors, vectors),
            (self._counts, counts),
        ]
        if self._has_categories:
            width = tf.maximum(_width(self._categories), tf.shape(categories)[1])
            _widen(self._categories, width)
            missing = width - tf.shape(categories)[1]
            rows.append((self._categories, tf.pad(categories, [[0, 0], [0, missing]])))
        for variable, values in rows:
            _grow(variable, capacity)
            variable.scatter_update(tf.IndexedSlices(values, slots))
        self._slots.remove(freed_ids)
        self._slots.insert(ids, slots)
        self._replaced_by.scatter_update(tf.IndexedSlices(replaced_by, positions))
        self.num_replaced.assign(num_replaced)
        self._order.assign(order)
        self._starts.assign(starts)
        self._fresh.assign(fresh)
        found = tf.concat([order, fresh], axis=0) >= 0
        self.num_found.assign(tf.math.count_nonzero(found, dtype=tf.int32))
        self.is_used.assign(True)

    def positions_of(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to int32 positions; -1 for ids without a slot."""
        slots = tf.ensure_shape(self._slots.lookup(ids), ids.shape)
        return tf.where(slots >= 0, self.num_pushed + slots, -1)

    def current(self, positions: tf.Tensor) -> tf.Tensor:
        """Maps positions to where the items are found now; -1 is nowhere."""
        is_pushed = (positions >= 0) & (positions < self.num_pushed)
        now = tf.gather(self._replaced_by, tf.where(is_pushed, positions, 0))
        moved = tf.where(now >= 0, self.num_pushed + now, -1)
        return tf.where(is_pushed & (now != AS_PUSHED), moved, positions)

    def is_as_pushed(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns bool [1, size]: which positions from ``start`` on are found there still."""
        return tf.cond(
            self.num_replaced > 0,
            lambda: tf.gather(self._replaced_by, tf.range(start, start + size)) == AS_PUSHED,
            lambda: tf.ones([size], tf.bool),
        )[tf.newaxis]

    def ids_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns string [...]: ``pushed`` where positions are not of slots, else the ids."""
        return self._at(self._ids, positions, pushed)

    def titles_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """As ``ids_at``, the titles."""
        return self._at(self._titles, positions, pushed)

    def vectors_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """As ``ids_at``, the vectors, float32 [..., d]."""
        return self._at(self._vectors, positions, pushed)

    def categories_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """As ``ids_at``, the categories, int32 [..., F]: as wide as both together need."""
        own, given = _width(self._categories), tf.shape(pushed)[-1]
        numbers = tf.gather(self._categories, tf.maximum(positions - self.num_pushed, 0))
        return tf.where(
            (positions >= self.num_pushed)[..., tf.newaxis],
            _pad_last(numbers, given - own),
            _pad_last(pushed, own - given),
        )

    def _at(self, variable: tf.Variable, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        is_slot = positions >= self.num_pushed
        for _ in range(pushed.shape.rank - positions.shape.rank):
            is_slot = is_slot[..., tf.newaxis]
        slots = tf.maximum(positions - self.num_pushed, 0)
        return tf.where(is_slot, tf.gather(variable, slots), pushed)

    def page(self, offset: tf.Tensor, limit: tf.Tensor) -> "Page":
        """Returns the slots that are found from the ``offset``-th on, ``limit`` at most."""
        slots = tf.sort(self._found_slots())[offset : offset + limit]
        counts = tf.cast(tf.gather(self._counts, slots), tf.int64)
        return Page(tf.gather(self._ids, slots), tf.gather(self._titles, slots), counts)

    def candidates(
        self,
        interests: tf.Tensor,
        mask: tf.Tensor,
        depth: tf.Tensor,
        allowed: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> Candidates:
        """Returns the best slots, [B, M]; M is 0 if nothing has changed.

        Args:
          interests: float32 [B, K, d].
          mask: bool [B, K].
          depth: int32 [], slots wanted at most.
          allowed: Called with positions, int32 [M]; returns which of them a row may have,
            bool [B, M].
        """

        def found() -> Candidates:
            slots = self._near(tf.boolean_mask(interests, mask))  # [M]
            vectors = tf.gather(self._vectors, slots)  # [M, d]
            batch, num_interests = tf.unstack(tf.shape(mask))
            queries = tf.reshape(interests, [-1, vectors.shape[1]])  # [B*K, d]
            scores = tf.matmul(queries, vectors, transpose_b=True)  # [B*K, M]
            scores = tf.reshape(scores, [batch, num_interests, tf.size(slots)])
            scores += tf.where(mask, 0.0, -np.inf)[:, :, tf.newaxis]
            return self._best(slots, tf.reduce_max(scores, axis=1), depth, allowed)

        return self._unless_unused(tf.shape(mask)[0], found)

    def popular(
        self,
        batch: tf.Tensor,
        depth: tf.Tensor,
        allowed: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> Candidates:
        """As ``candidates``, scored by count, the same for each of ``batch``, int32 [], rows."""

        def found() -> Candidates:
            slots = self._found_slots()
            shape = [batch, tf.size(slots)]
            return self._best(
                slots, tf.broadcast_to(tf.gather(self._counts, slots), shape), depth, allowed
            )

        return self._unless_unused(batch, found)

    def _unless_unused(self, batch: tf.Tensor, found: Callable[[], Candidates]) -> Candidates:
        def nothing() -> Candidates:
            return Candidates(tf.zeros([batch, 0], tf.int32), tf.zeros([batch, 0]))

        return tf.cond(self.is_used, found, nothing)

    def _best(
        self,
        slots: tf.Tensor,
        scores: tf.Tensor,
        depth: tf.Tensor,
        allowed: Callable[[tf.Tensor], tf.Tensor] | None,
    ) -> Candidates:
        positions = self.num_pushed + slots
        if allowed is not None:
            scores = tf.where(allowed(positions), scores, -np.inf)
        best = tf.math.top_k(scores, tf.minimum(depth, tf.size(slots)))
        positions = tf.gather(positions, best.indices)  # [B, depth]
        return Candidates(tf.where(best.values > -np.inf, positions, -1), best.values)

    def _found_slots(self) -> tf.Tensor:
        """Returns int32 [M], all slots that are found."""
        slots = tf.concat([self._order.read_value(), self._fresh.read_value()], axis=0)
        return tf.boolean_mask(slots, slots >= 0)

    def _near(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns int32 [M], the slots in the leaves nearest to any of ``queries``, [Q, d]."""
        if self._leaves_to_search is None:
            return self._found_slots()
        closeness = tf.matmul(queries, self._centroids.read_value(), transpose_b=True)  # [Q, C]
        # Partitions without a pushed item have no centroid.
        wanted = tf.minimum(self._leaves_to_search.read_value(), self.num_leaves)
        leaves = tf.math.top_k(closeness, wanted).indices
        leaves = tf.unique(tf.reshape(leaves, [-1])).y
        starts = self._starts.read_value()
        places = tf.ragged.range(tf.gather(starts, leaves), tf.gather(starts, leaves + 1)).values
        slots = tf.gather(self._order.read_value(), places)
        slots = tf.concat([slots, self._fresh.read_value()], axis=0)
        return tf.boolean_mask(slots, slots >= 0)

    def leaves_of(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns int32 [M], the leaf by which vectors [M, d] are ordered; -1 if there is none."""
        if self._leaves_to_search is None:
            return tf.fill([tf.shape(vectors)[0]], -1)
        closeness = tf.matmul(vectors, self._centroids.read_value(), transpose_b=True)
        return tf.argmax(closeness, axis=1, output_type=tf.int32)


class NewCategories(tf.Module):
    """Names of categories that no pushed item has, numbered after those that some have."""

    def __init__(self, num_pushed: int) -> None:
        """Starts without any; ``num_pushed`` is the number of the categories of the push."""
        super().__init__(name="new_categories")
        self._num_pushed = num_pushed
        self._names = _variable(np.zeros([0], object), "new_category_names", tf.string)
        self._numbers = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.int32, NO_CATEGORY, name="new_category_numbers"
        )

    @property
    def names(self) -> tf.Tensor:
        """String [W], in the order of their numbers."""
        return self._names.read_value()

    def numbers(self, names: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns ``pushed`` where it is a number, else that of the name; 0 for unknown names."""
        new = tf.ensure_shape(self._numbers.lookup(names), names.shape)
        return tf.where(pushed != NO_CATEGORY, pushed, new)

    def add(self, names: tf.Tensor) -> None:
        """Numbers ``names``, string [W], which have no number so far, in their order."""
        first = self.num_names + 1
        self._numbers.insert(names, tf.range(first, first + tf.size(names)))
        self._names.assign(tf.concat([self.names, names], axis=0))

    @property
    def num_names(self) -> tf.Tensor:
        """Int32 []: the largest number, those of the push included."""
        return self._num_pushed + tf.size(self.names)


def _variable(value: np.ndarray, name: str, dtype: tf.DType | None = None) -> tf.Variable:
    # The first dimension grows.
    shape = [None, *value.shape[1:]] if value.ndim else []
    return tf.Variable(
        tf.constant(value.tolist() if dtype else value, dtype),
        trainable=False,
        name=name,
        shape=shape,
    )


def _rows(variable: tf.Variable) -> tf.Tensor:
    """Returns int32 [], the size of the first dimension, without a read of the variable."""
    return tf.raw_ops.VariableShape(input=variable.handle)[0]


def _width(variable: tf.Variable) -> tf.Tensor:
    """Returns int32 [], the size of the last dimension, without a read of the variable."""
    return tf.raw_ops.VariableShape(input=variable.handle)[-1]


def _pad_last(values: tf.Tensor, missing: tf.Tensor) -> tf.Tensor:
    """Fills the last dimension up with zeros, if ``missing`` is positive."""
    paddings = [[0, 0]] * (values.shape.rank - 1) + [[0, tf.maximum(missing, 0)]]
    return tf.pad(values, paddings)


def _widen(variable: tf.Variable, width: tf.Tensor) -> None:
    """Makes ``variable``, of rank 2, one of ``width`` columns, if it has fewer."""
    missing = width - _width(variable)

    def widen() -> tf.Tensor:
        variable.assign(_pad_last(variable.read_value(), missing))
        return tf.constant(True)

    tf.cond(missing > 0, widen, lambda: tf.constant(False))


def _grow(variable: tf.Variable, capacity: tf.Tensor) -> None:
    """Makes ``variable`` one of ``capacity`` rows, if it has fewer."""
    missing = capacity - _rows(variable)

    def grow() -> tf.Tensor:
        value = variable.read_value()
        shape = tf.concat([[missing], tf.shape(value)[1:]], axis=0)
        filler = tf.fill(shape, "") if value.dtype == tf.string else tf.zeros(shape, value.dtype)
        variable.assign(tf.concat([value, filler], axis=0))
        return tf.constant(True)

    tf.cond(missing > 0, grow, lambda: tf.constant(False))
