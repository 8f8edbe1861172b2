"""Ranks items for requests that have options for the items' categories."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from retrieval.diversity import diversify
from retrieval.filters import AllowedSearch, ItemCategories, drop_forbidden, is_allowed
from retrieval.fixed_items import FixedItems
from retrieval.live_items import LiveItems
from retrieval.pushed_search import without_changed
from retrieval.ranking import best_distinct, rank, rank_once
from retrieval.requests import CategoryOptions, Request
from retrieval.search import Candidates, ExactSearch, Search


class CategoryRanking(tf.Module):
    """Ranks with filters by category, then for diversity of categories."""

    def __init__(
        self,
        items: ItemCategories,
        search: Search,
        popularity: ExactSearch,
        live: LiveItems | FixedItems,
        over_fetch: int,
    ) -> None:
        """Puts the parts together.

        Args:
          items: Their categories.
          search: Searches the vectors of the pushed items.
          popularity: Searches their counts in train, [R, 1].
          live: What has changed since the push.
          over_fetch: Candidates per item wanted, see ``IndexConfig``.
        """
        super().__init__(name="category_ranking")
        self.items = items
        self._search = without_changed(search, live)
        self._exact = ExactSearch(search.vectors)
        self._popularity = popularity
        self._live = live
        self._over_fetch = over_fetch
        self._largest_count = max(float(popularity.vectors.numpy().max()), 1.0)

    def rank(self, request: Request, options: CategoryOptions) -> Candidates:
        """Returns the items of each row, best first; fewer than asked only where fewer exist.

        Rows without options are ordered as by ``ranking.rank``.

        Returns:
          Candidates [B, max k], filled up with -1 and -inf.
        """
        width = tf.reduce_max(request.k)
        are_diverse = options.are_diverse()
        pool = tf.where(are_diverse, width * self._over_fetch, width)
        found = tf.cond(
            options.are_filtered(),
            lambda: self._rank_allowed(request, options, pool),
            lambda: self._rank_all(request, pool),
        )
        return tf.cond(
            are_diverse,
            lambda: self._diversify(request, options, found, width),
            lambda: found,
        )

    def _rank_all(self, request: Request, k: tf.Tensor) -> Candidates:
        interests, mask, excluded, _ = request
        slots = self._live.candidates(interests, mask, k + tf.shape(excluded)[1])
        people = rank(self._search, interests, mask, excluded, k, slots)
        return self._with_popular(request, people, None, k)

    def _rank_allowed(self, request: Request, options: CategoryOptions, k: tf.Tensor) -> Candidates:
        points = self.items.points(options.allow, options.deny)
        interests, mask, excluded, _ = request
        exact = without_changed(AllowedSearch(self._exact, self.items, points), self._live)
        allowed = self._allowed_by(points)
        slots = self._live.candidates(interests, mask, k + tf.shape(excluded)[1], allowed)

        def search_exactly() -> Candidates:
            return rank_once(exact, interests, mask, excluded, k, slots)

        if self._search.is_exact:
            people = search_exactly()
        else:
            pool = rank_once(self._search, interests, mask, excluded, k * self._over_fetch, slots)
            found = drop_forbidden(pool, self.items, points)
            found = best_distinct(found, excluded[:, :0], k)
            # An approximate search cannot be told what is allowed: if too much
            # of what it found is not, every item is looked at.
            is_full = found.positions[:, k - 1] >= 0
            people = tf.cond(
                tf.reduce_all(is_full | request.is_cold), lambda: found, search_exactly
            )
        return self._with_popular(request, people, points, k)

    def _allowed_by(self, points: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
        return lambda positions: is_allowed(points, self.items.of(positions))

    def _with_popular(
        self, request: Request, people: Candidates, points: tf.Tensor | None, k: tf.Tensor
    ) -> Candidates:
        """Puts popular items where there is no history; those that ``points`` allow, if given."""
        is_cold = request.is_cold[:, tf.newaxis]  # [B, 1]
        search: ExactSearch | AllowedSearch = self._popularity
        allowed: Callable[[tf.Tensor], tf.Tensor] | None = None
        if points is not None:
            search = AllowedSearch(self._popularity, self.items, points)
            allowed = self._allowed_by(points)

        def with_popular() -> Candidates:
            batch = tf.shape(is_cold)[0]
            slots = self._live.popular(batch, k + tf.shape(request.excluded)[1], allowed)
            popular = rank_once(
                without_changed(search, self._live),
                tf.ones([batch, 1, 1]),
                is_cold,
                request.excluded,
                k,
                slots,
            )
            return Candidates(
                tf.where(is_cold, popular.positions, people.positions),
                tf.where(is_cold, popular.scores, people.scores),
            )

        return tf.cond(tf.reduce_any(is_cold), with_popular, lambda: people)

    def _diversify(
        self, request: Request, options: CategoryOptions, found: Candidates, k: tf.Tensor
    ) -> Candidates:
        # Each row has a pool of its own size: what others ask for changes nothing.
        slot = tf.range(tf.shape(found.scores)[1])[tf.newaxis, :]
        is_in_pool = slot < (request.k * self._over_fetch)[:, tf.newaxis]  # [B, P]
        # Counts are brought to the range of a dot product of unit vectors.
        scale = tf.where(request.is_cold, 1.0 / self._largest_count, 1.0)[:, tf.newaxis]
        quality = tf.where(is_in_pool, found.scores * scale, -np.inf)
        categories = self.items.of(found.positions)
        return diversify(found, quality, categories, options.diversity, k)
