"""Ranks items for requests without filters: by score, or by popularity if there is no history."""

import tensorflow as tf

from retrieval.fixed_items import FixedItems
from retrieval.live_items import LiveItems
from retrieval.popular_items import PopularItems
from retrieval.pushed_search import without_changed
from retrieval.ranking import rank, together
from retrieval.requests import Request
from retrieval.search import Candidates, CatalogueSearch


class ScoreRanking(tf.Module):
    """Ranks the pushed items together with those that were added or changed since."""

    def __init__(
        self, search: CatalogueSearch, popular: PopularItems, live: LiveItems | FixedItems
    ) -> None:
        """Builds the ranking from its parts.

        Args:
          search: Searches the pushed items.
          popular: Ranks items for people without a history.
          live: The changes since the push.
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
          request: What each row asks for. Rows without an active interest get nothing unless
            they are cold.
          is_cold: bool [B], rows that get the most popular items.
          width: int32 [], the largest k.
          own: Each person's own items with their scores, [B, D]; None if there are none.

        Returns:
          Candidates [B, width], padded with -1 and -inf.
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
        """Ranks by score only; see ``ranking.rank`` for the arguments.

        ``own`` has each person's own items with their scores, [B, D]; None if there are none.
        """
        slots = self._live.candidates(interests, mask, width + tf.shape(excluded)[1])
        more = slots if own is None else together(own, slots)
        return rank(self._search, interests, mask, excluded, width, more)


def chosen(where: tf.Tensor, first: Candidates, second: Candidates) -> Candidates:
    """Returns the rows of ``first`` where ``where``, bool [B], is True, and else of ``second``."""
    return Candidates(
        tf.where(where[:, tf.newaxis], first.positions, second.positions),
        tf.where(where[:, tf.newaxis], first.scores, second.scores),
    )
