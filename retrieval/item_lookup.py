"""Looks up what the bundle knows of items by their ids, and ids by position."""

import numpy as np
import tensorflow as tf

from contract import signatures as names
from model.categories import NO_CATEGORY
from retrieval.fixed_items import FixedItems
from retrieval.live_columns import LiveColumn
from retrieval.live_items import LiveItems
from retrieval.tower import Tower, TowerWithCategories
from retrieval.vocabulary import VocabularyInitializer


class ItemLookup(tf.Module):
    """Ids, titles and vectors of items, inside the served graph.

    The *row* of an item is its place in the vocabulary. An item that can be found also has a
    *position*: its place among the searched vectors, or the position of its slot (see
    ``retrieval.live_items``).
    """

    def __init__(self, tower: Tower, rows: np.ndarray, live: LiveItems | FixedItems) -> None:
        """Builds the lookup tables from the tower's items.

        Args:
          tower: The Trainer's loaded SavedModel.
          rows: int32 [R], the items that can be found.
          live: The changes since the push.
        """
        super().__init__(name="item_lookup")
        self._tower = tower
        self.live = live
        self.vocabulary = tf.lookup.StaticHashTable(VocabularyInitializer(tower.item_ids), -1)
        positions = np.full([int(tf.size(tower.item_ids))], -1, np.int32)
        positions[rows] = np.arange(rows.size, dtype=np.int32)
        self._rows = tf.Variable(rows, trainable=False, name="rows")
        self._positions = tf.Variable(positions, trainable=False, name="positions")

    def pushed_positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to int32 positions in the push; -1 for items that cannot be found."""
        rows = self.vocabulary.lookup(ids)
        return tf.where(rows >= 0, tf.gather(self._positions, tf.maximum(rows, 0)), -1)

    def pushed_titles(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to string titles in the push; "" for items without a title."""
        rows = self.vocabulary.lookup(ids)
        return tf.where(rows >= 0, tf.gather(self._tower.item_titles, tf.maximum(rows, 0)), "")

    def slot_positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to int32 positions of slots; -1 for ids without one."""
        return self.live.positions_of(ids)

    def to_positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to int32 positions; -1 for items that cannot be found.

        A removed item keeps its position, although no search finds it there.
        """
        pushed, slots = self.pushed_positions(ids), self.slot_positions(ids)
        return tf.where(slots >= 0, slots, pushed)

    def to_ids(self, positions: tf.Tensor) -> tf.Tensor:
        """Maps positions to string ids; "" at -1."""
        pushed = tf.clip_by_value(positions, 0, self.live.num_pushed - 1)
        ids = tf.gather(self._tower.item_ids, tf.gather(self._rows, pushed))
        ids = self.live.ids_at(positions, ids)
        return tf.where(positions >= 0, ids, names.PADDING)

    def embeddings(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``vectors`` float32 [M, d] (zeros for unknown ids) and ``known`` bool [M]."""
        rows, slots = self.vocabulary.lookup(items), self.slot_positions(items)
        vectors = tf.gather(self._tower.item_vectors.read_value(), tf.maximum(rows, 0))
        vectors = tf.where(rows[:, tf.newaxis] >= 0, vectors, 0.0)
        return {
            names.VECTORS: self.live.vectors_at(slots, vectors),
            names.KNOWN: (rows >= 0) | (slots >= 0),
        }

    def titles(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``titles`` string [M] ("" for items without a title) and ``known`` bool [M]."""
        slots = self.slot_positions(items)
        return {
            names.TITLES: self.live.titles_at(slots, self.pushed_titles(items)),
            names.KNOWN: (self.vocabulary.lookup(items) >= 0) | (slots >= 0),
        }

    def list_items(self, offset: tf.Tensor, limit: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns a part of the catalogue in vocabulary order, most frequent items first.

        Items that were added or changed since the push follow after all pushed items. The changed
        ones are also listed among the pushed items, as they were pushed.

        Args:
          offset: int32 [], number of items to skip.
          limit: int32 [], maximum number of items; the last part has fewer.

        Returns:
          ``item_ids`` and ``titles`` string [L], ``train_counts`` int64 [L].
        """
        num_items = tf.size(self._tower.item_ids)
        first = tf.clip_by_value(offset, 0, num_items)
        rows = tf.range(first, first + tf.clip_by_value(limit, 0, num_items - first))
        slots = self.live.page(
            tf.maximum(offset - num_items, 0), tf.maximum(limit - tf.size(rows), 0)
        )
        return {
            names.ITEM_IDS: tf.concat([tf.gather(self._tower.item_ids, rows), slots.ids], 0),
            names.TITLES: tf.concat([tf.gather(self._tower.item_titles, rows), slots.titles], 0),
            names.TRAIN_COUNTS: tf.concat(
                [tf.gather(self._tower.train_counts, rows), slots.counts], 0
            ),
        }


class CategoryLookup(tf.Module):
    """Looks up the categories of items, for a tower that has them."""

    def __init__(
        self, tower: TowerWithCategories, items: ItemLookup, changed: LiveColumn | None
    ) -> None:
        """Makes the lookup.

        Args:
          tower: Holds the categories of the push.
          items: Looks up items by their ids.
          changed: The categories of changed items; None if items cannot change.
        """
        super().__init__(name="category_lookup")
        self._tower = tower
        self._items = items
        self._changed = changed

    def of_items(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``categories`` string [M, F], padded with "", and ``known`` bool [M]."""
        rows, slots = self._items.vocabulary.lookup(items), self._items.slot_positions(items)
        numbers = tf.gather(self._tower.item_categories, tf.maximum(rows, 0))  # [M, F]
        numbers = tf.where(rows[:, tf.newaxis] >= 0, numbers, NO_CATEGORY)
        if self._changed is not None:
            numbers = self._changed.at(slots, numbers)
        names_by_number = tf.concat([[names.PADDING], self._names()], axis=0)
        return {
            names.CATEGORIES: tf.gather(names_by_number, numbers),
            names.KNOWN: (rows >= 0) | (slots >= 0),
        }

    def list_categories(self, limit: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the ``limit`` (int32 []) categories with the most items, the largest first.

        Items are counted as they were pushed; categories added since then have a count of 0.

        Returns:
          ``categories`` string [L] and ``item_counts`` int32 [L].
        """
        numbers = tf.reshape(self._tower.item_categories, [-1])
        counts = tf.math.bincount(numbers, minlength=1 + tf.size(self._names()))[1:]
        top = tf.math.top_k(counts, tf.clip_by_value(limit, 0, tf.size(counts)))
        return {
            names.CATEGORIES: tf.gather(self._names(), top.indices),
            names.ITEM_COUNTS: top.values,
        }

    def _names(self) -> tf.Tensor:
        """Returns string [V + W], in the order of their numbers."""
        new = self._changed.new if self._changed else None
        pushed = self._tower.categories
        return pushed.read_value() if new is None else tf.concat([pushed, new.names], axis=0)
