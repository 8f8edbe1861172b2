"""Which items a request's filters allow: by item, by block, and as a list of positions."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from contract.signatures import PADDING
from model.categories import NO_CATEGORY
from retrieval.inverted_lists import inverted_lists
from retrieval.live_columns import LiveColumn
from retrieval.search import Candidates, ExactSearch
from retrieval.vocabulary import VocabularyInitializer

# An upper bound on the number of categories of one item.
_MOST_CATEGORIES = 1 << 20


class ItemFilter(Protocol):
    """A feature of the items by which requests can filter.

    A *condition* is what a request asks of the feature: a tensor with one row for each row of the
    request.
    """

    def of(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns [..., F], the values of the feature at ``positions``; padding at -1."""

    def block(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns [size, F], the values from position ``start`` on."""

    def accepts(self, condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, M], which items each row allows.

        Args:
          condition: A condition of B rows.
          values: The items' values: [B, M, F] if each row has its own items, or [M, F] if all
            rows share them.
        """

    def is_used(self, condition: tf.Tensor) -> tf.Tensor:
        """Returns bool [B], whether a row filters by this feature."""

    def num_listed(self, condition: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B], the total number of entries in the lists of the allowed values."""

    def lists_as_allowed(self, condition: tf.Tensor) -> tf.Tensor:
        """Returns bool [B], whether ``listed`` gives exactly the allowed items, unchecked.

        False if entries have to be checked one by one.
        """

    def listed(self, condition: tf.Tensor) -> tf.Tensor:
        """Returns int32 [L], distinct positions: all allowed ones, and possibly others.

        Args:
          condition: A condition of one row.
        """


class ItemCategories(tf.Module):
    """The categories of the items that can be found; an ``ItemFilter``.

    In this class, "category" means a value of any categorical feature.
    """

    def __init__(
        self,
        names: tf.Variable,
        items: tf.Variable,
        rows: np.ndarray,
        changed: LiveColumn | None = None,
    ) -> None:
        """Builds the filter and its inverted lists.

        Args:
          names: string [V], see ``model.categories``.
          items: int32 [N, F], the numbers of each item's categories, see ``model.categories``.
          rows: int32 [R], the items that can be found.
          changed: The categories of changed items; None if items cannot change.
        """
        super().__init__(name="filter_categories")
        self._changed = changed
        self._new = changed.new if changed else None
        if rows.size != items.numpy().shape[0]:
            items = tf.Variable(items.numpy()[rows], trainable=False, name="retrievable_categories")
        self._items = items  # [R, F]
        self._num_pushed = rows.size
        self._have_one_at_most = items.numpy().shape[1] == 1
        self._names = names
        self._table = tf.lookup.StaticHashTable(VocabularyInitializer(self._names), -1)
        lists = inverted_lists(items.numpy(), len(names.numpy()))
        self._offsets = tf.Variable(lists.offsets, trainable=False, name="list_offsets")
        self._positions = tf.Variable(lists.positions, trainable=False, name="list_positions")

    def of(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns int32 [..., F], the current categories at ``positions``; padding at -1."""
        found = self.pushed(tf.where(positions < self._num_pushed, positions, -1))
        return found if self._changed is None else self._changed.at(positions, found)

    def pushed(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns int32 [..., F], the categories as they were pushed; padding at -1."""
        found = tf.gather(self._items.read_value(), tf.maximum(positions, 0))
        return tf.where(positions[..., tf.newaxis] >= 0, found, NO_CATEGORY)

    def numbers(self, names: tf.Tensor) -> tf.Tensor:
        """Returns int32 [...], the numbers of category names; 0 for padding and unknown names."""
        pushed = 1 + self._table.lookup(names)
        return pushed if self._new is None else self._new.numbers(names, pushed)

    def block(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns int32 [size, F], the categories from position ``start`` on."""
        return self._items[start : start + size]

    def points(self, allow: tf.Tensor, deny: tf.Tensor) -> tf.Tensor:
        """Turns a request's lists into points per category.

        An item is allowed if the points of its categories have a positive sum: it must have no
        denied category and, if there is an allow list, at least one allowed category. A name that
        the catalogue does not have belongs to no item.

        Args:
          allow: string [B, C]; "" is padding. A row of padding means that there is no allow list.
          deny: string [B, C]; "" is padding.

        Returns:
          int32 [B, V + 1], the points by category number; see ``is_allowed``. V includes the
          names added since the push.
        """
        has_list = tf.reduce_any(allow != PADDING, axis=1, keepdims=True)  # [B, 1]
        listed = tf.where(has_list, self._contains(allow), True)  # [B, V + 1]
        # The other categories of an item cannot outweigh this.
        denied = -_MOST_CATEGORIES
        points = tf.where(self._contains(deny), denied, tf.cast(listed, tf.int32))
        return tf.concat([tf.cast(~has_list, tf.int32), points[:, 1:]], axis=1)

    def accepts(self, condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; the condition consists of the ``points``."""
        return is_allowed(condition, values)

    def is_used(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``.

        An allow list filters even if it has unknown names only; such a deny list does not.
        """
        return tf.reduce_any(condition != 1, axis=1)

    def num_listed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        offsets = tf.cast(self._offsets.read_value(), tf.float32)
        is_allowed_in_push = condition[:, : tf.size(offsets) - 1] > 0
        return tf.linalg.matvec(tf.cast(is_allowed_in_push, tf.float32), offsets[1:] - offsets[:-1])

    def lists_as_allowed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``.

        False if a category is denied, or if several are allowed and an item can be in more than
        one of their lists.
        """
        denies = tf.reduce_any(condition < 0, axis=1)
        if self._have_one_at_most:
            return ~denies
        return ~denies & (tf.math.count_nonzero(condition, axis=1) == 1)

    def listed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``: the union of the lists of the allowed categories."""
        offsets = self._offsets.read_value()
        points = condition[0, : tf.size(offsets) - 1]
        categories = tf.cast(tf.where(points > 0)[:, 0], tf.int32)
        starts, ends = tf.gather(offsets, categories), tf.gather(offsets, categories + 1)
        entries = tf.ragged.range(starts, ends).flat_values
        positions = tf.gather(self._positions.read_value(), entries)
        if self._have_one_at_most:
            return positions

        def distinct() -> tf.Tensor:
            # An item is in the list of each of its categories. Keep only the entry in the list of
            # its first allowed category.
            of_item = tf.gather(self._items.read_value(), positions)  # [L, F]
            first = tf.argmax(tf.gather(points, of_item) > 0, axis=1, output_type=tf.int32)
            list_of_entry = tf.repeat(categories, ends - starts)
            is_first = tf.gather(of_item, first, batch_dims=1) == list_of_entry
            return tf.boolean_mask(positions, is_first)

        return tf.cond(tf.size(categories) > 1, distinct, lambda: positions)

    def some_conditions(self, rows: int, size: int) -> tuple[tf.Tensor, float]:
        """Returns conditions that allow random categories, for measurements.

        Args:
          rows: Number of conditions, B.
          size: Approximate number of entries in the lists of each condition.

        Returns:
          The conditions, int32 [B, V + 1] (see ``points``), and the mean number of entries in
          their lists.
        """
        sizes = np.diff(self._offsets.numpy())
        generator = np.random.default_rng(0)
        points = np.zeros([rows, sizes.size], np.int32)
        for row in points:
            order = 1 + generator.permutation(sizes.size - 1)
            row[order[np.cumsum(sizes[order]) - sizes[order] < size]] = 1
        return tf.constant(points), float((points * sizes).sum() / rows)

    def _contains(self, names: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, V + 1]: which categories ``names``, string [B, C], contain."""
        numbers = self.numbers(names)  # [B, C]
        batch, width = tf.unstack(tf.shape(numbers))
        row = tf.repeat(tf.range(batch), width)
        pairs = tf.stack([row, tf.reshape(numbers, [-1])], axis=1)  # [B * C, 2]
        num_names = tf.size(self._names) if self._new is None else self._new.num_names
        shape = [batch, num_names + 1]
        return tf.scatter_nd(pairs, tf.ones([batch * width], tf.int32), shape) > 0


def is_allowed(points: tf.Tensor, categories: tf.Tensor) -> tf.Tensor:
    """Returns which items a request allows.

    Args:
      points: int32 [B, V + 1], see ``ItemCategories.points``.
      categories: The items' categories: int32 [B, M, F] if each row has its own items, or
        [n, F] if all rows share them.

    Returns:
      bool [B, M], or [B, n].
    """
    if categories.shape.rank == 3:
        return tf.reduce_sum(tf.gather(points, categories, batch_dims=1), axis=2) > 0
    return tf.reduce_sum(tf.gather(points, categories, axis=1), axis=2) > 0


class Selection:
    """The items that the conditions of a request allow, for each of its rows.

    Attributes:
      num_items: int32 [], number of items in the index, R.
    """

    def __init__(
        self,
        filters: Sequence[ItemFilter],
        conditions: Sequence[tf.Tensor],
        num_items: int | tf.Tensor,
    ) -> None:
        """Combines filters: an item is allowed if every condition accepts it.

        Args:
          filters: At least one filter.
          conditions: The condition of each filter, with B rows.
          num_items: Number of items in the index, R.
        """
        self._filters = tuple(filters)
        self._conditions = tuple(conditions)
        self.num_items = tf.convert_to_tensor(num_items)

    def of_rows(self, rows: tf.Tensor) -> "Selection":
        """Returns the selection for the given rows, int32 [n]."""
        conditions = [tf.gather(condition, rows) for condition in self._conditions]
        return Selection(self._filters, conditions, self.num_items)

    def is_used(self) -> tf.Tensor:
        """Returns bool [B], which rows filter at all."""
        return tf.reduce_any(tf.stack(self._used(), axis=0), axis=0)

    def allows(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, M], which of ``positions``, int32 [B, M], are allowed; -1 never is."""
        allowed = positions >= 0
        for filter_, condition, used in self._parts():
            allowed &= tf.cond(
                tf.reduce_any(used),
                lambda f=filter_, c=condition: f.accepts(c, f.of(positions)),
                lambda: tf.fill(tf.shape(positions), True),
            )
        return allowed

    def allows_of_all(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, M], which of ``positions``, int32 [M], each row allows."""
        allowed = [
            filter_.accepts(condition, filter_.of(positions))
            for filter_, condition in zip(self._filters, self._conditions, strict=True)
        ]
        return tf.reduce_all(tf.stack(allowed, axis=0), axis=0)

    def allows_block(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, size] for the positions from ``start`` on."""
        allowed = [
            filter_.accepts(condition, filter_.block(start, size))
            for filter_, condition in zip(self._filters, self._conditions, strict=True)
        ]
        return tf.reduce_all(tf.stack(allowed, axis=0), axis=0)

    def num_listed(self) -> tf.Tensor:
        """Returns float32 [B], the number of entries that ``listed`` reads, at most R."""
        return tf.reduce_min(self._lengths(), axis=0)

    def num_looked_at(self) -> tf.Tensor:
        """Returns float32 [B], the number of entries that ``listed`` has to check."""
        return tf.where(self._lists_as_allowed(), 0.0, self.num_listed())

    def num_allowed(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B], an estimate of the number of allowed items.

        Args:
          sample: int32 [S], positions drawn at random.
        """
        share = tf.reduce_mean(tf.cast(self.allows_of_all(sample), tf.float32), axis=1)
        return tf.minimum(share * tf.cast(self.num_items, tf.float32), self.num_listed())

    def listed(self, row: tf.Tensor) -> tf.Tensor:
        """Returns int32 [L], the positions that ``row``, int32 [], allows, in no particular order.

        It reads the shortest list of all filters and checks the entries against the other filters.
        """
        conditions = [condition[row : row + 1] for condition in self._conditions]
        shortest = tf.argmin(self._lengths()[:, row], output_type=tf.int32)
        branches = [
            lambda f=filter_, c=condition: f.listed(c)
            for filter_, condition in zip(self._filters, conditions, strict=True)
        ]
        positions = tf.switch_case(shortest, [*branches, lambda: tf.range(self.num_items)])
        alone = Selection(self._filters, conditions, self.num_items)
        return tf.cond(
            alone._lists_as_allowed()[0],
            lambda: positions,
            lambda: tf.boolean_mask(positions, alone.allows(positions[tf.newaxis])[0]),
        )

    def _lists_as_allowed(self) -> tf.Tensor:
        """Returns bool [B], whether the shortest list contains exactly the allowed items."""
        used = tf.stack(self._used(), axis=1)  # [B, filters]
        as_allowed = [
            filter_.lists_as_allowed(condition)
            for filter_, condition in zip(self._filters, self._conditions, strict=True)
        ]
        # Only a filter that the row uses counts; the list of any other filter says nothing.
        decides = used & tf.stack(as_allowed, axis=1)
        decides = tf.pad(decides, [[0, 0], [0, 1]])  # for the list of all items
        shortest = tf.argmin(self._lengths(), axis=0, output_type=tf.int32)  # [B]
        is_only_one = tf.math.count_nonzero(used, axis=1) == 1
        return is_only_one & tf.gather(decides, shortest, batch_dims=1)

    def _parts(self) -> list[tuple[ItemFilter, tf.Tensor, tf.Tensor]]:
        return list(zip(self._filters, self._conditions, self._used(), strict=True))

    def _used(self) -> list[tf.Tensor]:
        return [
            filter_.is_used(condition)
            for filter_, condition in zip(self._filters, self._conditions, strict=True)
        ]

    def _lengths(self) -> tf.Tensor:
        """Returns float32 [filters + 1, B], the entries in each filter's lists, and then R."""
        lengths = [
            filter_.num_listed(condition)
            for filter_, condition in zip(self._filters, self._conditions, strict=True)
        ]
        everything = tf.fill(tf.shape(lengths[0]), tf.cast(self.num_items, tf.float32))
        return tf.stack([*lengths, everything], axis=0)


class AllowedSearch:
    """Exact search that scores every item and keeps the allowed ones; a ``Search``."""

    def __init__(self, search: ExactSearch, selection: Selection) -> None:
        """Restricts ``search`` to the items that ``selection`` allows."""
        self.vectors = search.vectors
        self._search = search
        self._selection = selection

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """See ``Search``."""
        return self._search.candidates(interests, mask, depth, k, self._selection.allows_block)

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        return self._search.describe()


def drop_forbidden(candidates: Candidates, selection: Selection) -> Candidates:
    """Replaces the candidates [B, M] that are not allowed by -1 and -inf."""
    allowed = selection.allows(candidates.positions)
    return Candidates(
        tf.where(allowed, candidates.positions, -1),
        tf.where(allowed, candidates.scores, -np.inf),
    )
