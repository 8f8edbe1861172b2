"""Which items a request's category lists leave: by item, and by block of items."""

import numpy as np
import tensorflow as tf

from contract.signatures import PADDING
from model.categories import NO_CATEGORY
from retrieval.search import Candidates, ExactSearch
from retrieval.tower import TowerWithCategories
from retrieval.vocabulary import VocabularyInitializer


class ItemCategories(tf.Module):
    """The categories of the items that can be found."""

    def __init__(self, tower: TowerWithCategories, rows: np.ndarray) -> None:
        """Takes the categories of ``rows``, int32 [R], from the tower."""
        super().__init__(name="filter_categories")
        items = tower.item_categories
        if rows.size != items.numpy().shape[0]:
            items = tf.Variable(items.numpy()[rows], trainable=False, name="retrievable_categories")
        self._items = items  # [R, F]
        self._names = tower.categories
        self._table = tf.lookup.StaticHashTable(VocabularyInitializer(self._names), -1)

    def of(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns int32 [..., F]: the categories at ``positions``; none at -1."""
        found = tf.gather(self._items.read_value(), tf.maximum(positions, 0))
        return tf.where(positions[..., tf.newaxis] >= 0, found, NO_CATEGORY)

    def block(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns int32 [size, F]: the categories from position ``start`` on."""
        return self._items[start : start + size]

    def points(self, allow: tf.Tensor, deny: tf.Tensor) -> tf.Tensor:
        """Turns a request's lists into points: an item of a positive sum is allowed.

        Without an allow list every item is allowed that has no denied category,
        with one only an item that also has an allowed category. A name that the
        catalogue does not know belongs to no item.

        Args:
          allow: string [B, C]; "" is padding. All padding is no list.
          deny: string [B, C]; "" is padding.

        Returns:
          int32 [B, V + 1], by category; see ``is_allowed``.
        """
        has_list = tf.reduce_any(allow != PADDING, axis=1, keepdims=True)  # [B, 1]
        listed = tf.where(has_list, self._contains(allow), True)  # [B, V + 1]
        # More than all other categories of an item can make up for.
        denied = -tf.shape(self._items)[1] - 1
        points = tf.where(self._contains(deny), denied, tf.cast(listed, tf.int32))
        return tf.concat([tf.cast(~has_list, tf.int32), points[:, 1:]], axis=1)

    def _contains(self, names: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, V + 1]: whether ``names``, string [B, C], hold a category."""
        numbers = 1 + self._table.lookup(names)  # [B, C]; 0 for padding and unknown names
        batch, width = tf.unstack(tf.shape(numbers))
        row = tf.repeat(tf.range(batch), width)
        pairs = tf.stack([row, tf.reshape(numbers, [-1])], axis=1)  # [B * C, 2]
        shape = [batch, tf.size(self._names) + 1]
        return tf.scatter_nd(pairs, tf.ones([batch * width], tf.int32), shape) > 0


def is_allowed(points: tf.Tensor, categories: tf.Tensor) -> tf.Tensor:
    """Returns which items a request allows.

    Args:
      points: int32 [B, V + 1], see ``ItemCategories.points``.
      categories: int32 [B, M, F] of items of each row, or [n, F] of items common
        to all.

    Returns:
      bool [B, M], or [B, n].
    """
    if categories.shape.rank == 3:
        return tf.reduce_sum(tf.gather(points, categories, batch_dims=1), axis=2) > 0
    return tf.reduce_sum(tf.gather(points, categories, axis=1), axis=2) > 0


class AllowedSearch:
    """Exact search among the allowed items; a ``Search``."""

    def __init__(self, search: ExactSearch, items: ItemCategories, points: tf.Tensor) -> None:
        """Narrows ``search`` down to what ``points`` allow."""
        self.vectors = search.vectors
        self._search = search
        self._items = items
        self._points = points

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """See ``Search``."""

        def allowed(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            return is_allowed(self._points, self._items.block(start, size))

        return self._search.candidates(interests, mask, depth, k, allowed)

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        return self._search.describe()


def drop_forbidden(candidates: Candidates, items: ItemCategories, points: tf.Tensor) -> Candidates:
    """Makes candidates [B, M] that are not allowed into no candidates."""
    allowed = (candidates.positions >= 0) & is_allowed(points, items.of(candidates.positions))
    return Candidates(
        tf.where(allowed, candidates.positions, -1),
        tf.where(allowed, candidates.scores, -np.inf),
    )
