"""Which items a request's category lists leave: by item, and by block of items."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from contract.signatures import PADDING
from model.categories import NO_CATEGORY
from retrieval.fixed_items import FixedCategories, FixedItems
from retrieval.live_items import LiveItems, NewCategories
from retrieval.search import Candidates, ExactSearch
from retrieval.tower import TowerWithCategories
from retrieval.vocabulary import VocabularyInitializer

# More than an item can have.
_MOST_CATEGORIES = 1 << 20


class ItemCategories(tf.Module):
    """The categories of the items that can be found.

    Attributes:
      new: The categories that came since the push.
    """

    def __init__(
        self,
        tower: TowerWithCategories,
        rows: np.ndarray,
        live: LiveItems | FixedItems,
        new: NewCategories | FixedCategories,
    ) -> None:
        """Takes the categories of ``rows``, int32 [R], from the tower.

        Args:
          tower: Holds the categories of the push.
          rows: int32 [R], the items that can be found.
          live: What has changed since the push.
          new: The categories that came since then.
        """
        super().__init__(name="filter_categories")
        self._live = live
        self.new = new
        items = tower.item_categories
        if rows.size != items.numpy().shape[0]:
            items = tf.Variable(items.numpy()[rows], trainable=False, name="retrievable_categories")
        self._items = items  # [R, F]
        self._table = tf.lookup.StaticHashTable(VocabularyInitializer(tower.categories), -1)

    def of(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns int32 [..., F]: the categories at ``positions``; none at -1."""
        last = tf.shape(self._items)[0] - 1
        found = tf.gather(self._items.read_value(), tf.clip_by_value(positions, 0, last))
        found = self._live.categories_at(positions, found)
        return tf.where(positions[..., tf.newaxis] >= 0, found, NO_CATEGORY)

    def pushed(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns int32 [..., F]: the categories in the push; none at -1."""
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
        denied = -_MOST_CATEGORIES
        points = tf.where(self._contains(deny), denied, tf.cast(listed, tf.int32))
        return tf.concat([tf.cast(~has_list, tf.int32), points[:, 1:]], axis=1)

    def numbers(self, names: tf.Tensor) -> tf.Tensor:
        """Returns int32 [...], the numbers of names; 0 for padding and unknown ones."""
        return self.new.numbers(names, 1 + self._table.lookup(names))

    def _contains(self, names: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, V + 1]: whether ``names``, string [B, C], hold a category."""
        numbers = self.numbers(names)  # [B, C]
        batch, width = tf.unstack(tf.shape(numbers))
        row = tf.repeat(tf.range(batch), width)
        pairs = tf.stack([row, tf.reshape(numbers, [-1])], axis=1)  # [B * C, 2]
        shape = [batch, self.new.num_names + 1]
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

    is_exact = True

    def num_items(self) -> tf.Tensor:
        """See ``Search``; those that are not allowed included."""
        return self._search.num_items()

    def exact(self) -> "AllowedSearch":
        """See ``Search``."""
        return self

    def candidates(
        self,
        interests: tf.Tensor,
        mask: tf.Tensor,
        depth: tf.Tensor,
        k: tf.Tensor,
        allowed: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ) -> Candidates:
        """See ``ExactSearch``."""

        def both_allow(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            listed = is_allowed(self._points, self._items.block(start, size))
            return listed if allowed is None else listed & allowed(start, size)

        return self._search.candidates(interests, mask, depth, k, both_allow)

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
