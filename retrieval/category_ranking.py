"""Ranks items for requests that may filter by the items' features or ask for diversity."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from contract.live_catalogue import filter_column
from contract.signatures import ALLOW_PREFIX, DENY_PREFIX, MAX_PREFIX, MIN_PREFIX
from retrieval.as_pushed import AsPushed
from retrieval.diversity import diversify
from retrieval.filtered_ranking import FilteredRanking, Limits
from retrieval.filters import ItemCategories, ItemFilter, Selection, drop_forbidden
from retrieval.fixed_items import FixedItems
from retrieval.item_numbers import ItemNumbers
from retrieval.live_columns import LiveColumn
from retrieval.live_items import LiveItems
from retrieval.popular_items import PopularItems
from retrieval.ranking import best_distinct, together
from retrieval.requests import CategoryOptions, Request
from retrieval.score_ranking import ScoreRanking, chosen
from retrieval.search import Candidates, CatalogueSearch
from retrieval.tower import Tower, TowerWithCategories, TowerWithFilters


class CategoryRanking(tf.Module):
    """Applies filters by categories and other features, then diversifies by category.

    Attributes:
      items: The categories of the items; None if they have none.
      filters: The other features by which requests can filter, by name.
      limits: The limits that decide how a filtered request is answered.
    """

    def __init__(
        self,
        tower: Tower,
        rows: np.ndarray,
        items: ItemCategories | None,
        search: CatalogueSearch,
        by_score: ScoreRanking,
        popular: PopularItems,
        live: LiveItems | FixedItems,
        over_fetch: int,
        columns: Mapping[str, LiveColumn],
    ) -> None:
        """Builds the ranking from its parts.

        Args:
          tower: The tower; it may hold other features to filter by.
          rows: int32 [R], the items that can be found.
          items: Their categories; None if they have none.
          search: Searches their vectors.
          by_score: Ranks the rows without filters.
          popular: Ranks items for people without a history.
          live: The changes since the push.
          over_fetch: Candidates per requested item; see ``IndexConfig``.
          columns: The features of changed items; see ``live_columns``.
        """
        super().__init__(name="category_ranking")
        self.items = items
        self.filters: dict[str, ItemCategories | ItemNumbers] = {}
        if isinstance(tower, TowerWithFilters):
            for name, values in tower.filter_values.items():
                changed = columns.get(filter_column(name))
                if name in tower.filter_names:
                    names = tower.filter_names[name]
                    self.filters[name] = ItemCategories(names, values, rows, changed)
                else:
                    self.filters[name] = ItemNumbers(values, rows, changed)
        self._features: list[ItemFilter] = [*([items] if items else []), *self.filters.values()]
        self.limits = Limits(rows.size)
        self._num_items = rows.size
        self._by_score = by_score
        self._filtered = FilteredRanking(search, self.limits)
        self._popular = popular
        self._live = live
        self._over_fetch = over_fetch
        self._largest_count = max(float(popular.counts.numpy().max()), 1.0)

    def rank(
        self, request: Request, options: CategoryOptions, own: Candidates | None = None
    ) -> Candidates:
        """Returns the items for each row, best first.

        A row gets fewer items than it asks for only if no more exist. Rows without options get the
        order of ``ScoreRanking``.

        Args:
          request: What each row asks for.
          options: Each row's options for categories and other features.
          own: Each person's own items with their scores, [B, D]; None if there are none.

        Returns:
          Candidates [B, max k], padded with -1 and -inf.
        """
        # The pool of a row depends on that row alone, so the other rows of a batch cannot change
        # its answer.
        per_item = tf.where(options.diversity > 0.0, self._over_fetch, 1)
        pools = request._replace(k=request.k * per_item)
        width = tf.reduce_max(pools.k)
        is_filtered, conditions = self._filtered_rows(options)
        # Filtered rows are masked out here: without an active interest and not cold, they cost
        # nothing.
        rest = pools._replace(mask=pools.mask & ~is_filtered[:, tf.newaxis])
        found = self._by_score.rank(rest, pools.is_cold & ~is_filtered, width, own)
        found = tf.cond(
            tf.reduce_any(is_filtered),
            lambda: chosen(
                is_filtered, self._rank_filtered(pools, conditions, is_filtered, own), found
            ),
            lambda: found,
        )
        if self.items is None:
            return found
        return tf.cond(
            options.are_diverse(),
            lambda: self._diversify(request, options, found),
            lambda: found,
        )

    def _filtered_rows(self, options: CategoryOptions) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns which rows are filtered, bool [B], and the conditions of all filters.

        There is one condition for ``items`` and one for each of ``filters``. They are empty if no
        row has a filter.
        """
        batch = tf.size(options.diversity)

        def asked() -> tuple[tf.Tensor, list[tf.Tensor]]:
            conditions = []
            if self.items is not None:
                conditions.append(self.items.points(options.allow, options.deny))
            for name, feature in self.filters.items():
                first, second = (options.filters[given] for given in filter_inputs(name, feature))
                if isinstance(feature, ItemNumbers):
                    conditions.append(feature.bounds(name, first, second))
                else:
                    conditions.append(feature.points(first, second))
            return Selection(self._features, conditions, self._num_items).is_used(), conditions

        def nothing_asked() -> tuple[tf.Tensor, list[tf.Tensor]]:
            return tf.fill([batch], False), [
                tf.zeros([batch, 2])
                if isinstance(feature, ItemNumbers)
                else tf.zeros([batch, 0], tf.int32)
                for feature in self._features
            ]

        is_filtered, conditions = tf.cond(options.are_filtered(), asked, nothing_asked)
        return is_filtered, conditions

    def _rank_filtered(
        self,
        request: Request,
        conditions: Sequence[tf.Tensor],
        is_filtered: tf.Tensor,
        own: Candidates | None,
    ) -> Candidates:
        """Ranks the rows of ``is_filtered``, bool [B]; the results of other rows are undefined."""
        selection = self._selection(conditions)
        width = tf.reduce_max(request.k)
        is_cold = request.is_cold & is_filtered
        people = request._replace(mask=request.mask & is_filtered[:, tf.newaxis])
        found = self._filtered.rank(people, selection, width)
        depth = width + tf.shape(request.excluded)[1]
        slots = self._live.candidates(people.interests, people.mask, depth, selection.allows_of_all)
        if own is not None:
            slots = together(drop_forbidden(own, selection), slots)
        if slots is not None:
            found = best_distinct(together(found, slots), request.excluded, width)

        def with_popular() -> Candidates:
            wanted = tf.where(is_cold, request.k, 0)
            popular = self._popular.best(wanted, request.excluded, width, selection)
            return chosen(is_cold, popular, found)

        found = tf.cond(tf.reduce_any(is_cold), with_popular, lambda: found)
        is_wanted = tf.range(width) < request.k[:, tf.newaxis]
        return Candidates(
            tf.where(is_wanted, found.positions, -1), tf.where(is_wanted, found.scores, -np.inf)
        )

    def _selection(self, conditions: Sequence[tf.Tensor]) -> Selection:
        filters = self._features
        if isinstance(self._live, LiveItems):
            filters = [*filters, AsPushed(self._live)]
            conditions = [*conditions, AsPushed.condition(tf.shape(conditions[0])[0])]
        return Selection(filters, conditions, self._num_items)

    def _diversify(
        self, request: Request, options: CategoryOptions, found: Candidates
    ) -> Candidates:
        slot = tf.range(tf.shape(found.scores)[1])[tf.newaxis, :]
        is_in_pool = slot < (request.k * self._over_fetch)[:, tf.newaxis]  # [B, P]
        # Scale counts to the range of a dot product of unit vectors, so that ``diversity`` weighs
        # the same against both.
        scale = tf.where(request.is_cold, 1.0 / self._largest_count, 1.0)[:, tf.newaxis]
        quality = tf.where(is_in_pool, found.scores * scale, -np.inf)
        assert self.items is not None  # ``rank`` calls this only if items have categories
        categories = self.items.of(found.positions)
        return diversify(found, quality, categories, options.diversity, tf.reduce_max(request.k))


def has_options(tower: Tower) -> bool:
    """Returns whether requests can filter the items of ``tower`` or diversify them."""
    return isinstance(tower, TowerWithCategories | TowerWithFilters)


def filter_inputs(name: str, feature: ItemCategories | ItemNumbers) -> tuple[str, str]:
    """Returns the names of the two inputs with which a request filters by a feature."""
    if isinstance(feature, ItemNumbers):
        return MIN_PREFIX + name, MAX_PREFIX + name
    return ALLOW_PREFIX + name, DENY_PREFIX + name
