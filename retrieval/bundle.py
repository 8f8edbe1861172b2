"""The graph that is pushed: it takes histories of raw item ids and recommends raw item ids."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from contract import signatures as names
from contract.features import HISTORY_TIME
from contract.live_catalogue import CATEGORIES
from contract.signatures import NO_INTEREST, PADDING
from retrieval.category_ranking import CategoryRanking, has_options
from retrieval.config import IndexConfig
from retrieval.filters import ItemCategories
from retrieval.fixed_items import FixedItems
from retrieval.item_lookup import CategoryLookup, ItemLookup
from retrieval.leaves import index_leaves
from retrieval.live_columns import LiveColumn, live_columns
from retrieval.live_items import LiveItems
from retrieval.popular_items import PopularItems
from retrieval.requests import (
    CategoryOptions,
    Request,
    checked_category_options,
    checked_k,
    checked_times,
    repeated_rows,
)
from retrieval.score_ranking import ScoreRanking
from retrieval.search import Candidates, CatalogueSearch
from retrieval.tower import Tower, TowerWithCategories, knows_person, person_inputs


class RetrievalBundle(tf.Module):
    """Vocabulary, user tower and index in one graph.

    ``retrieval.signatures`` makes the served signatures from it.

    Attributes:
      tower: The Trainer's loaded SavedModel.
      search: Searches the vectors of the items that can be found.
      config: Defaults and limits of requests.
      items: Looks up items by their ids.
      live: The changes since the push.
      item_categories: The categories by position; None if the tower has none.
      categories: Looks up the categories of items by id; None if the tower has none.
      popular: Ranks items by their counts in train.
      category_ranking: Ranks items for requests with filters or diversity; None if the items have
        neither categories nor other features to filter by.
      person_inputs: Names of the inputs about a person, apart from the history.
    """

    def __init__(
        self, tower: Tower, rows: np.ndarray, search: CatalogueSearch, config: IndexConfig
    ) -> None:
        """Builds the bundle from its parts.

        Args:
          tower: The Trainer's loaded SavedModel.
          rows: int32 [R], the items that can be found (``retrievable_items``).
          search: Searches the vectors of ``rows``.
          config: Defaults and limits of requests.
        """
        super().__init__(name="retrieval")
        self.tower = tower
        self.search = search
        self.config = config
        self.person_inputs = person_inputs(tower.signatures)
        self.live: LiveItems | FixedItems = FixedItems(rows.size)
        columns: dict[str, LiveColumn] = {}
        if config.live_catalogue:
            columns = live_columns(tower, rows.size)
            dimensions = search.vectors.shape[1]
            self.live = LiveItems(rows.size, dimensions, index_leaves(search), columns)
        self.items = ItemLookup(tower, rows, self.live)
        self.popular = PopularItems(tower.train_counts.numpy()[rows], self.live)
        self._by_score = ScoreRanking(search, self.popular, self.live)
        self.item_categories: ItemCategories | None = None
        self.categories: CategoryLookup | None = None
        self.category_ranking: CategoryRanking | None = None
        if isinstance(tower, TowerWithCategories):
            changed = columns.get(CATEGORIES)
            self.item_categories = ItemCategories(
                tower.categories, tower.item_categories, rows, changed
            )
            self.categories = CategoryLookup(tower, self.items, changed)
        if has_options(tower):
            self.category_ranking = CategoryRanking(
                tower,
                rows,
                self.item_categories,
                search,
                self._by_score,
                self.popular,
                self.live,
                config.over_fetch,
                columns,
            )

    def recommend(
        self,
        history: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        exclude_history: tf.Tensor,
        person: dict[str, tf.Tensor],
        categories: CategoryOptions | None = None,
    ) -> dict[str, tf.Tensor]:
        """Recommends items; the body of ``serving_default``.

        Args:
          history: string [B, T], oldest first; "" is padding. Unknown ids are
            ignored.
          k: int32, scalar or [B], from 1 to ``max_k``.
          exclude: string [B, E] or [1, E], ids that are not returned; "" is padding.
          exclude_history: bool, scalar or [B], whether the history is not returned either.
          person: string [B] or [1] by the name of the profile feature; "" is unknown.
            Also ``history_time``, if the tower reads it: int64 [B, T], where 0 is
            unknown. It may have any shape if all times are unknown.
          categories: Diversity (scalar or [B]), lists ([B, C] or [1, C]) and bounds
            ([B] or [1]). They have no effect if the items have no features to filter by.

        Returns:
          ``item_ids`` string [B, k], ``scores`` float32 [B, k] and
          ``interest_index`` int32 [B, k], best first, or in the order in which a
          diversified answer was chosen; and ``num_known`` int32 [B], how many ids of
          the history the tower knows. Rows with fewer items, or with a smaller k than
          others, are padded with ("", 0, -1). People without a known item get the most
          popular items, with the count in train as the score and -1 as the interest.
        """
        batch = tf.shape(history)[0]
        k, width = checked_k(k, batch, self.config.max_k)
        person = {
            # One column of padding, to match the history below.
            name: tf.pad(checked_times(values, history), [[0, 0], [0, 1]])
            if name == HISTORY_TIME
            else repeated_rows(values, batch)
            for name, values in person.items()
        }
        # One column of padding, so that T is at least 1 even if no row has a history.
        history = tf.pad(history, [[0, 0], [0, 1]], constant_values=PADDING)
        owned = self.items.to_positions(history)
        excludes_history = tf.broadcast_to(tf.reshape(exclude_history, [-1]), [batch])
        excluded = tf.concat(
            [
                tf.where(excludes_history[:, tf.newaxis], owned, -1),
                repeated_rows(self.items.to_positions(exclude), batch),
            ],
            axis=1,
        )
        user = self.tower.user_interests(history, person)
        interests, history_index = user[names.INTERESTS], user[names.HISTORY_INDEX]
        is_cold = ~knows_person(owned, history_index)
        mask = user[names.INTEREST_MASK] & ~is_cold[:, tf.newaxis]
        own = self._own_candidates(user, mask)
        found = self._find(Request(interests, mask, excluded, k), width, categories, own)
        positions = tf.where(tf.range(width) < k[:, tf.newaxis], found.positions, -1)
        by_interest = tf.matmul(self._vectors_of(positions), interests, transpose_b=True)
        by_interest = tf.where(mask[:, tf.newaxis, :], by_interest, -np.inf)  # [B, k, K]
        interest = tf.argmax(by_interest, axis=-1, output_type=tf.int32)
        has_interest = (positions >= 0) & ~is_cold[:, tf.newaxis]
        return {
            names.ITEM_IDS: self.items.to_ids(positions),
            names.SCORES: tf.where(positions >= 0, found.scores, 0.0),
            names.INTEREST_INDEX: tf.where(has_interest, interest, NO_INTEREST),
            names.NUM_KNOWN: tf.math.count_nonzero(history_index, axis=1, dtype=tf.int32),
        }

    def similar_items(self, items: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns, for each item, the ``k`` other items with the largest dot product.

        Args:
          items: string [B], item ids; an unknown id has no neighbours.
          k: int32, scalar or [B], from 1 to ``max_k``.

        Returns:
          ``item_ids`` string [B, k] and ``scores`` float32 [B, k], padded as in
          ``recommend``.
        """
        k, width = checked_k(k, tf.shape(items)[0], self.config.max_k)
        own = self.items.to_positions(items)[:, tf.newaxis]  # [B, 1]
        vectors = self._vectors_of(own)  # [B, 1, d]
        found = self._by_score.nearest(vectors, own >= 0, own, width)
        positions = tf.where(tf.range(width) < k[:, tf.newaxis], found.positions, -1)
        return {
            names.ITEM_IDS: self.items.to_ids(positions),
            names.SCORES: tf.where(positions >= 0, found.scores, 0.0),
        }

    def _find(
        self,
        request: Request,
        width: tf.Tensor,
        categories: CategoryOptions | None,
        own: Candidates | None,
    ) -> Candidates:
        """Returns candidates [B, width]; ``width`` is the largest k of the request."""
        ranking = self.category_ranking
        if categories is None or ranking is None:
            return self._by_score.rank(request, request.is_cold, width, own)
        batch = tf.shape(request.k)[0]
        return ranking.rank(request, checked_category_options(categories, batch), own)

    def _own_candidates(self, user: Mapping[str, tf.Tensor], mask: tf.Tensor) -> Candidates | None:
        """Returns the people's own items, which they may choose again; None if the tower has none.

        Args:
          user: The tower's outputs.
          mask: bool [B, K], the active interests; people without any get nothing.

        Returns:
          Candidates [B, D]. Each score is the best score over the interests plus the item's bonus.
          As the bonus is not negative, it is at least the score with which a search finds the same
          item.
        """
        if names.OWN_INDEX not in user:
            return None
        index = user[names.OWN_INDEX]  # [B, D]
        ids = tf.gather(self.tower.item_ids, tf.maximum(index - 1, 0))
        positions = tf.where(index > 0, self.items.pushed_positions(ids), -1)
        positions = self.live.current(positions)  # -1 for removed items
        scores = tf.matmul(
            self._vectors_of(positions), user[names.INTERESTS], transpose_b=True
        )  # [B, D, K]
        best = tf.reduce_max(tf.where(mask[:, tf.newaxis, :], scores, -np.inf), axis=2)
        positions = tf.where(tf.reduce_any(mask, axis=1, keepdims=True), positions, -1)
        return Candidates(
            positions, tf.where(positions >= 0, best + user[names.OWN_BONUS], -np.inf)
        )

    def _vectors_of(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns float32 [..., d], the vectors at ``positions``."""
        # tf.gather on the variable itself would be a sparse read, after which every read of
        # the whole variable, such as a search, copies it.
        last = self.live.num_pushed - 1
        pushed = tf.clip_by_value(positions, 0, last)
        found = tf.gather(self.search.vectors.read_value(), pushed)
        return self.live.vectors_at(positions, found)
