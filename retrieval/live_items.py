"""Items that were added, changed or removed after the push, inside the served graph.

A push fixes the vocabulary, the vectors and the index. Later changes of the catalogue are kept in
separate variables, which ``apply`` changes while the version is being served. Every added or
changed item gets a *slot*. For every pushed item a variable records whether it is still as it was
pushed, has been replaced by a slot, or has been removed. The position of an item in a slot is the
number of pushed items plus the number of the slot.

The cost of a change should depend on the size of the change, not on that of the catalogue. The
variables that grow with the number of items (those indexed by slot, and ``_replaced_by``) are
therefore read by ``tf.gather`` on the variable and written by scattering, and requests do not read
them whole: after a scatter, TensorFlow copies a variable for every read of the whole.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from contract.live_catalogue import AS_PUSHED
from retrieval.growing_variables import grow, growing_variable, num_rows
from retrieval.leaves import Leaves
from retrieval.live_columns import LiveColumn
from retrieval.search import Candidates


class Page(NamedTuple):
    """Some of the slots: their ids and titles, string [L], and counts in train, int64 [L]."""

    ids: tf.Tensor
    titles: tf.Tensor
    counts: tf.Tensor


class LiveItems(tf.Module):
    """The changes since the push; a new object has none.

    The caller of ``apply`` must make sure that no request runs at the same time. A request reads
    several of the variables, and they must all belong to the same state.

    Attributes:
      num_pushed: Number of positions before the first slot, R.
      is_used: bool [], whether ``apply`` was ever called.
      num_replaced: int32 [], number of pushed items that have been replaced or removed.
      num_found: int32 [], number of slots that searches can find.
      columns: The features by which requests filter.
      num_leaves: Number of partitions by which slots are ordered, C; 0 if there are none.
    """

    def __init__(
        self,
        num_pushed: int,
        dimensions: int,
        leaves: Leaves | None,
        columns: Mapping[str, LiveColumn],
    ) -> None:
        """Creates the variables.

        Args:
          num_pushed: Number of items in the pushed index, R.
          dimensions: Length of a vector, d.
          leaves: The partitions of the index. A search scores the slots in the partitions nearest
            to the interests; if this is None, it scores all slots.
          columns: The features by which requests filter; see ``live_columns``.
        """
        super().__init__(name="live_items")
        self.num_pushed = num_pushed
        self.num_leaves = len(leaves.centroids) if leaves else 0
        self._leaves_to_search = leaves.to_search if leaves else None
        centroids = leaves.centroids if leaves else np.zeros([0, dimensions], np.float32)
        self._centroids = growing_variable(centroids, "live_centroids")
        self.columns = dict(columns)
        self.is_used = growing_variable(np.array(False), "live_is_used")
        self.num_replaced = growing_variable(np.array(0, np.int32), "live_num_replaced")
        self.num_found = growing_variable(np.array(0, np.int32), "live_num_found")
        self._replaced_by = growing_variable(
            np.full([num_pushed], AS_PUSHED, np.int32), "live_replaced_by"
        )
        self._slots = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.int32, -1, name="live_slots_of_ids"
        )
        # These start with one row, so that tf.gather has a row to read before there is a slot.
        self._ids = growing_variable(np.array([""], object), "live_ids", tf.string)
        self._titles = growing_variable(np.array([""], object), "live_titles", tf.string)
        self._vectors = growing_variable(np.zeros([1, dimensions], np.float32), "live_vectors")
        self._counts = growing_variable(np.zeros([1], np.float32), "live_counts")
        # Slots ordered by the leaf that is nearest to their vector, the index at which each leaf
        # starts, and the slots that are not yet in that order. Slots that can no longer be found
        # are overwritten with -1.
        self._order = growing_variable(np.zeros([0], np.int32), "live_order")
        self._starts = growing_variable(np.zeros([self.num_leaves + 1], np.int32), "live_starts")
        self._fresh = growing_variable(np.zeros([0], np.int32), "live_fresh")

    def apply(
        self,
        slots: tf.Tensor,
        ids: tf.Tensor,
        titles: tf.Tensor,
        vectors: tf.Tensor,
        counts: tf.Tensor,
        values: Mapping[str, tf.Tensor],
        freed_ids: tf.Tensor,
        positions: tf.Tensor,
        replaced_by: tf.Tensor,
        num_replaced: tf.Tensor,
        order: tf.Tensor,
        starts: tf.Tensor,
        fresh: tf.Tensor,
    ) -> None:
        """Applies changes. The caller assigns the slots; the arguments are not checked.

        Args:
          slots: int32 [M], the slots to write.
          ids: string [M], the ids of their items.
          titles: string [M], their titles.
          vectors: float32 [M, d], their vectors.
          counts: float32 [M], their popularity: the count in train of the pushed item, or 0 for
            an added one.
          values: For each of ``columns``, the items' values [M, F].
          freed_ids: string [G], ids that no longer have a slot.
          positions: int32 [P], the pushed items to which ``replaced_by`` refers.
          replaced_by: int32 [P], the slot of each, ``AS_PUSHED`` or ``REMOVED``.
          num_replaced: int32 [], number of pushed items that are not ``AS_PUSHED`` after the
            change.
          order: int32 [S], slots in the order of their leaves; -1 is padding.
          starts: int32 [C + 1], where each leaf starts in ``order``.
          fresh: int32 [F], slots that are not in ``order``; -1 is padding.
        """
        size = num_rows(self._ids)
        needed = tf.reduce_max(tf.concat([slots, [-1]], axis=0)) + 1
        # Doubling keeps the total cost of growing proportional to the number of added items.
        capacity = tf.where(needed > size, tf.maximum(needed, 2 * size), size)
        for variable, rows in (
            (self._ids, ids),
            (self._titles, titles),
            (self._vectors, vectors),
            (self._counts, counts),
        ):
            grow(variable, capacity)
            variable.scatter_update(tf.IndexedSlices(rows, slots))
        for name, column in self.columns.items():
            column.write(slots, values[name], capacity)
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
        """Maps positions to the current positions of the items; -1 for removed items."""
        is_pushed = (positions >= 0) & (positions < self.num_pushed)
        now = tf.gather(self._replaced_by, tf.where(is_pushed, positions, 0))
        moved = tf.where(now >= 0, self.num_pushed + now, -1)
        return tf.where(is_pushed & (now != AS_PUSHED), moved, positions)

    def is_as_pushed(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns bool [1, size], which items from position ``start`` on are still as pushed."""
        return tf.cond(
            self.num_replaced > 0,
            lambda: tf.gather(self._replaced_by, tf.range(start, start + size)) == AS_PUSHED,
            lambda: tf.ones([size], tf.bool),
        )[tf.newaxis]

    def ids_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns string [...], the ids at the positions of slots, and ``pushed`` elsewhere."""
        return self._at(self._ids, positions, pushed)

    def titles_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns string [...], the titles of slots; see ``ids_at``."""
        return self._at(self._titles, positions, pushed)

    def vectors_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """Returns float32 [..., d], the vectors of slots; see ``ids_at``."""
        return self._at(self._vectors, positions, pushed)

    def _at(self, variable: tf.Variable, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        is_slot = positions >= self.num_pushed
        for _ in range(pushed.shape.rank - positions.shape.rank):
            is_slot = is_slot[..., tf.newaxis]
        slots = tf.maximum(positions - self.num_pushed, 0)
        return tf.where(is_slot, tf.gather(variable, slots), pushed)

    def page(self, offset: tf.Tensor, limit: tf.Tensor) -> "Page":
        """Returns at most ``limit`` of the slots that can be found, from the ``offset``-th on."""
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
        """Returns the best slots, [B, M]; M is 0 if nothing has ever changed.

        Args:
          interests: float32 [B, K, d].
          mask: bool [B, K], the active interests.
          depth: int32 [], maximum number of slots.
          allowed: A function from positions, int32 [M], to which of them each row may have,
            bool [B, M]; None allows all.
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
        """Returns the most frequent slots, scored by their counts; see ``candidates``.

        Args:
          batch: int32 [], number of rows, B.
          depth: See ``candidates``.
          allowed: See ``candidates``.
        """

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
        """Returns int32 [M], all slots that can be found."""
        slots = tf.concat([self._order.read_value(), self._fresh.read_value()], axis=0)
        return tf.boolean_mask(slots, slots >= 0)

    def _near(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns int32 [M], the slots in the leaves nearest to any of the queries [Q, d]."""
        if self._leaves_to_search is None:
            return self._found_slots()
        closeness = tf.matmul(queries, self._centroids.read_value(), transpose_b=True)  # [Q, C]
        # Partitions without a pushed item have no centroid, so there can be fewer than configured.
        wanted = tf.minimum(self._leaves_to_search.read_value(), self.num_leaves)
        leaves = tf.math.top_k(closeness, wanted).indices
        leaves = tf.unique(tf.reshape(leaves, [-1])).y
        starts = self._starts.read_value()
        places = tf.ragged.range(tf.gather(starts, leaves), tf.gather(starts, leaves + 1)).values
        slots = tf.gather(self._order.read_value(), places)
        slots = tf.concat([slots, self._fresh.read_value()], axis=0)
        return tf.boolean_mask(slots, slots >= 0)

    def leaves_of(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns int32 [M], the leaf nearest to each of the vectors [M, d]; -1 without leaves."""
        if self._leaves_to_search is None:
            return tf.fill([tf.shape(vectors)[0]], -1)
        closeness = tf.matmul(vectors, self._centroids.read_value(), transpose_b=True)
        return tf.argmax(closeness, axis=1, output_type=tf.int32)
