"""From item ids to what the bundle holds of items, and back."""

import numpy as np
import tensorflow as tf

from contract import signatures as names
from model.categories import NO_CATEGORY
from retrieval.tower import Tower, TowerWithCategories
from retrieval.vocabulary import VocabularyInitializer


class ItemLookup(tf.Module):
    """Ids, titles, vectors and categories of items, inside the served graph.

    An item has a row, its place in the vocabulary, and, if it can be found, a
    position, its place among the vectors that are searched.
    """

    def __init__(self, tower: Tower, rows: np.ndarray) -> None:
        """Takes the items from the tower.

        Args:
          tower: The Trainer's loaded SavedModel.
          rows: int32 [R], the items that can be found.
        """
        super().__init__(name="item_lookup")
        self._tower = tower
        self.vocabulary = tf.lookup.StaticHashTable(VocabularyInitializer(tower.item_ids), -1)
        positions = np.full([int(tf.size(tower.item_ids))], -1, np.int32)
        positions[rows] = np.arange(rows.size, dtype=np.int32)
        self._rows = tf.Variable(rows, trainable=False, name="rows")
        self._positions = tf.Variable(positions, trainable=False, name="positions")

    def to_positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Maps string ids to int32 positions; -1 for what cannot be found."""
        rows = self.vocabulary.lookup(ids)
        return tf.where(rows >= 0, tf.gather(self._positions, tf.maximum(rows, 0)), -1)

    def to_ids(self, positions: tf.Tensor) -> tf.Tensor:
        """Maps positions to string ids; "" at -1."""
        rows = tf.gather(self._rows, tf.maximum(positions, 0))
        ids = tf.gather(self._tower.item_ids, rows)
        return tf.where(positions >= 0, ids, names.PADDING)

    def embeddings(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``vectors`` float32 [M, d] (zeros if unknown) and ``known`` bool [M]."""
        rows = self.vocabulary.lookup(items)
        known = rows >= 0
        vectors = tf.gather(self._tower.item_vectors.read_value(), tf.maximum(rows, 0))
        return {names.VECTORS: tf.where(known[:, tf.newaxis], vectors, 0.0), names.KNOWN: known}

    def titles(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``titles`` string [M] ("" if there is none) and ``known`` bool [M]."""
        rows = self.vocabulary.lookup(items)
        titles = tf.gather(self._tower.item_titles, tf.maximum(rows, 0))
        return {names.TITLES: tf.where(rows >= 0, titles, ""), names.KNOWN: rows >= 0}

    def list_items(self, offset: tf.Tensor, limit: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns a part of the catalogue in vocabulary order, most frequent items first.

        Args:
          offset: int32 [], items to pass over.
          limit: int32 [], items wanted; fewer come at the end.

        Returns:
          ``item_ids`` and ``titles`` string [L], ``train_counts`` int64 [L].
        """
        num_items = tf.size(self._tower.item_ids)
        first = tf.clip_by_value(offset, 0, num_items)
        rows = tf.range(first, first + tf.clip_by_value(limit, 0, num_items - first))
        return {
            names.ITEM_IDS: tf.gather(self._tower.item_ids, rows),
            names.TITLES: tf.gather(self._tower.item_titles, rows),
            names.TRAIN_COUNTS: tf.gather(self._tower.train_counts, rows),
        }


class CategoryLookup(tf.Module):
    """The categories of items, for a tower that has them."""

    def __init__(self, tower: TowerWithCategories, vocabulary: tf.lookup.StaticHashTable) -> None:
        """Takes the categories from the tower; ``vocabulary`` maps ids to rows."""
        super().__init__(name="category_lookup")
        self._tower = tower
        self._vocabulary = vocabulary

    def of_items(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``categories`` string [M, F], padded with "", and ``known`` bool [M]."""
        rows = self._vocabulary.lookup(items)
        numbers = tf.gather(self._tower.item_categories, tf.maximum(rows, 0))  # [M, F]
        numbers = tf.where(rows[:, tf.newaxis] >= 0, numbers, NO_CATEGORY)
        categories = tf.concat([[names.PADDING], self._tower.categories], axis=0)
        return {names.CATEGORIES: tf.gather(categories, numbers), names.KNOWN: rows >= 0}

    def list_categories(self, limit: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the ``limit`` (int32 []) categories of most items, the largest first.

        Returns:
          ``categories`` string [L] and ``item_counts`` int32 [L].
        """
        numbers = tf.reshape(self._tower.item_categories, [-1])
        counts = tf.math.bincount(numbers, minlength=1 + tf.size(self._tower.categories))[1:]
        top = tf.math.top_k(counts, tf.clip_by_value(limit, 0, tf.size(counts)))
        return {
            names.CATEGORIES: tf.gather(self._tower.categories, top.indices),
            names.ITEM_COUNTS: top.values,
        }
