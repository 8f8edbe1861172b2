"""Ranks for requests that wish for something of the items' categories."""

from collections.abc import Container
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from retrieval.diversity import diversify
from retrieval.filters import AllowedSearch, ItemCategories, drop_forbidden
from retrieval.ranking import best_distinct, rank, rank_once
from retrieval.search import Candidates, ExactSearch, Search


class Wishes(NamedTuple):
    """What a request says of categories.

    Attributes:
      diversity: float32 [B], from 0 to 1.
      allow: string [B, C], categories of which an item must have one; "" is
        padding, all padding allows every item.
      deny: string [B, C], categories of which an item must have none.
    """

    diversity: tf.Tensor
    allow: tf.Tensor
    deny: tf.Tensor

    def are_any(self) -> tf.Tensor:
        """Returns bool []: whether any row wishes for anything."""
        return self.are_diverse() | self.are_filtered()

    def are_diverse(self) -> tf.Tensor:
        """Returns bool []: whether any row wants diversity."""
        return tf.reduce_any(self.diversity > 0.0)

    def are_filtered(self) -> tf.Tensor:
        """Returns bool []: whether any row has a list."""
        return tf.reduce_any(self.allow != "") | tf.reduce_any(self.deny != "")


def no_wishes(names: Container[str]) -> dict[str, tf.Tensor]:
    """Inputs of a signature that wish for nothing.

    Args:
      names: The signature's inputs; those that it lacks are left out.
    """
    nothing = tf.constant([[""]])
    values = {
        "diversity": tf.constant(0.0),
        "allow_categories": nothing,
        "deny_categories": nothing,
    }
    return {name: value for name, value in values.items() if name in names}


class Request(NamedTuple):
    """Whom to rank items for.

    Attributes:
      interests: float32 [B, K, d].
      mask: bool [B, K], the active interests; none of people without history.
      excluded: int32 [B, X], positions to leave out; -1 is none.
      k: int32 [B], items wanted.
    """

    interests: tf.Tensor
    mask: tf.Tensor
    excluded: tf.Tensor
    k: tf.Tensor

    @property
    def is_cold(self) -> tf.Tensor:
        """Bool [B]: people who get the most popular items."""
        return ~tf.reduce_any(self.mask, axis=1)


class CategoryRanking(tf.Module):
    """Ranks with filters by category, then for diversity of categories."""

    def __init__(
        self, tower: Any, rows: np.ndarray, search: Search, counts: np.ndarray, over_fetch: int
    ) -> None:
        """Puts the parts together.

        Args:
          tower: Has ``categories`` and ``item_categories``.
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

    def rank(self, request: Request, wishes: Wishes) -> Candidates:
        """Returns the items of each row, best first; fewer than asked only where fewer exist.

        The order of rows without a wish is that of ``ranking.rank``.

        Returns:
          Candidates [B, max k], filled up with -1 and -inf.
        """
        width = tf.reduce_max(request.k)
        are_diverse = wishes.are_diverse()
        pool = tf.where(are_diverse, width * self._over_fetch, width)
        found = tf.cond(
            wishes.are_filtered(),
            lambda: self._rank_allowed(request, wishes, pool),
            lambda: self._rank_all(request, pool),
        )
        return tf.cond(
            are_diverse,
            lambda: self._diversify(request, wishes, found, width),
            lambda: found,
        )

    def _rank_all(self, request: Request, k: tf.Tensor) -> Candidates:
        people = rank(self._search, request.interests, request.mask, request.excluded, k)
        return self._with_popular(request, people, self._popularity, k)

    def _rank_allowed(self, request: Request, wishes: Wishes, k: tf.Tensor) -> Candidates:
        points = self.items.points(wishes.allow, wishes.deny)
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
        self, request: Request, wishes: Wishes, found: Candidates, k: tf.Tensor
    ) -> Candidates:
        # Each row has a pool of its own size: what others ask for changes nothing.
        slot = tf.range(tf.shape(found.scores)[1])[tf.newaxis, :]
        is_in_pool = slot < (request.k * self._over_fetch)[:, tf.newaxis]  # [B, P]
        # Counts are brought to the range of a dot product of unit vectors.
        scale = tf.where(request.is_cold, 1.0 / self._largest_count, 1.0)[:, tf.newaxis]
        quality = tf.where(is_in_pool, found.scores * scale, -np.inf)
        categories = self.items.of(found.positions)
        return diversify(found, quality, categories, wishes.diversity, k)
