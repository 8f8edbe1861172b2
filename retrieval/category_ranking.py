"""Ranks items for requests that have options for the items' categories."""

import numpy as np
import tensorflow as tf

from retrieval.diversity import diversify
from retrieval.filters import AllowedSearch, ItemCategories, drop_forbidden
from retrieval.ranking import best_distinct, rank, rank_once
from retrieval.requests import CategoryOptions, Request
from retrieval.search import Candidates, ExactSearch, Search
from retrieval.tower import TowerWithCategories


class CategoryRanking(tf.Module):
    """Ranks with filters by category, then for diversity of categories."""

    def __init__(
        self,
        tower: TowerWithCategories,
        rows: np.ndarray,
        search: Search,
        counts: np.ndarray,
        over_fetch: int,
    ) -> None:
        """Puts the parts together.

        Args:
          tower: Holds the categories.
          rows: int32 [R], the items that can be found.
          search: Searches their vectors.
          counts: [R], their counts in train.
          over_fetch: Candidates per item wanted, see ``IndexConfig``.
        """
        super().__init__(name="category_ranking")
        self.items = ItemCategories(tower, rows)
        self._search = search
        self._over_fetch = over_fetch
        # Popularity is a search as well: the dot product of counts and 1.
        column = counts.astype(np.float32)[:, np.newaxis]
        self._popularity = ExactSearch(tf.Variable(column, trainable=False, name="count_column"))
        self._largest_count = max(float(counts.max()), 1.0)

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
        people = rank(self._search, request.interests, request.mask, request.excluded, k)
        return self._with_popular(request, people, self._popularity, k)

    def _rank_allowed(self, request: Request, options: CategoryOptions, k: tf.Tensor) -> Candidates:
        points = self.items.points(options.allow, options.deny)
        interests, mask, excluded, _ = request
        exact = AllowedSearch(ExactSearch(self._search.vectors), self.items, points)

        def search_exactly() -> Candidates:
            return rank_once(exact, interests, mask, excluded, k)

        if isinstance(self._search, ExactSearch):
            people = search_exactly()
        else:
            pool = rank_once(self._search, interests, mask, excluded, k * self._over_fetch)
            allowed = drop_forbidden(pool, self.items, points)
            allowed = best_distinct(allowed, excluded[:, :0], k)
            # An approximate search cannot be told what is allowed: if too much
            # of what it found is not, every item is looked at.
            is_full = allowed.positions[:, k - 1] >= 0
            people = tf.cond(
                tf.reduce_all(is_full | request.is_cold), lambda: allowed, search_exactly
            )
        popular = AllowedSearch(self._popularity, self.items, points)
        return self._with_popular(request, people, popular, k)

    def _with_popular(
        self, request: Request, people: Candidates, popularity: Search, k: tf.Tensor
    ) -> Candidates:
        """Puts popular items where there is no history."""
        is_cold = request.is_cold[:, tf.newaxis]  # [B, 1]

        def with_popular() -> Candidates:
            ones = tf.ones([tf.shape(is_cold)[0], 1, 1])
            popular = rank_once(popularity, ones, is_cold, request.excluded, k)
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
