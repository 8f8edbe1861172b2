"""Ranks items for requests without options: by score, and by popularity without a history."""

import tensorflow as tf

from retrieval.fixed_items import FixedItems
from retrieval.live_items import LiveItems
from retrieval.popular_items import PopularItems
from retrieval.pushed_search import without_changed
from retrieval.ranking import rank, together
from retrieval.requests import Request
from retrieval.search import Candidates, CatalogueSearch


class ScoreRanking(tf.Module):
    """Ranks pushed items, and those that came since, together."""

    def __init__(
        self, search: CatalogueSearch, popular: PopularItems, live: LiveItems | FixedItems
    ) -> None:
        """Puts the parts together.

        Args:
          search: Searches the pushed items.
          popular: Ranks for people without a history.
          live: What has changed since the push.
        """
        super().__init__(name="score_ranking")
        self._search = without_changed(search, live)
        self._popular = popular
        self._live = live

    def rank(
        self,
        request: Request,
        is_cold: tf.Tensor,
        width: tf.Tensor,
        own: Candidates | None = None,
    ) -> Candidates:
        """Returns the items of each row, best first.

        Args:
          request: What each row asks; rows without an active interest get nothing, if they
            are not cold.
          is_cold: bool [B], rows that get the most popular items.
          width: int32 [], the largest k.
          own: Items of people's own with scores of their own, [B, D]; None is none.

        Returns:
          Candidates [B, width], filled up with -1 and -inf.
        """
        found = self.nearest(request.interests, request.mask, request.excluded, width, own)

        def with_popular() -> Candidates:
            wanted = tf.where(is_cold, width, 0)
            return chosen(is_cold, self._popular.best(wanted, request.excluded, width), found)

        return tf.cond(tf.reduce_any(is_cold), with_popular, lambda: found)

    def nearest(
        self,
        interests: tf.Tensor,
        mask: tf.Tensor,
        excluded: tf.Tensor,
        width: tf.Tensor,
        own: Candidates | None = None,
    ) -> Candidates:
        """As ``rank``, without anybody who is cold; see ``ranking.rank`` for the arguments."""
        slots = self._live.candidates(interests, mask, width + tf.shape(excluded)[1])
        more = slots if own is None else together(own, slots)
        return rank(self._search, interests, mask, excluded, width, more)


def chosen(where: tf.Tensor, first: Candidates, second: Candidates) -> Candidates:
    """Takes the rows of ``first`` where ``where``, bool [B], says so, else of ``second``."""
    return Candidates(
        tf.where(where[:, tf.newaxis], first.positions, second.positions),
        tf.where(where[:, tf.newaxis], first.scores, second.scores),
    )
