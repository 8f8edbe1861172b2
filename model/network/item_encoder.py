"""Item embeddings pooled from ids and side features: MIND section 3.2."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from model.catalogue import Catalogue

# Items that `encode_all` encodes at once. It limits the size of the [rows, F, d] intermediate.
_BLOCK = 65_536
# Name of the item id table in `ItemEncoder.tables`.
ITEM_TABLE = "item_id"
# Standard deviation of all embeddings before training.
EMBEDDING_INIT_STD = 0.02


class ItemEncoder(tf.keras.layers.Layer):
    """Averages an item's id embedding and its side-feature embeddings.

    A feature with several values is first averaged over them, so that every feature
    has the same weight. Missing features are left out of the average. The id embedding
    of an item never seen in training was not learned, so such an item is pooled from
    its side features alone. It is a zero vector if it has none.

    Such items can only be found if side features alone make a useful vector. Training
    therefore drops the id of an item with side features at rate ``id_dropout``.

    Example:
      Item 3 was never seen in training and has no side features. Index 0 is padding:

      >>> import numpy as np
      >>> encoder = ItemEncoder(Catalogue(np.array([0, 5, 2, 0])), embedding_dim=4)
      >>> vectors = encoder(tf.constant([[1, 2, 3, 0]]))
      >>> vectors.shape
      TensorShape([1, 4, 4])
      >>> tf.reduce_any(vectors != 0, axis=-1).numpy().tolist()
      [[True, True, False, False]]

    Args:
      catalogue: Train counts and side features, which the layer keeps as constants.
      embedding_dim: d.
      side_features: False uses ids only.
      id_dropout: Rate at which ids are dropped, in training only.
      seed: Seeds the embeddings and the dropout.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        embedding_dim: int,
        side_features: bool = True,
        id_dropout: float = 0.0,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(name="item_encoder", **kwargs)
        self.num_items = catalogue.num_items
        self._id_dropout = id_dropout
        # Part of the checkpoint, see CapsuleLayer.
        self._generator = tf.random.Generator.from_seed(seed)
        self._features = sorted(catalogue.side_features) if side_features else []
        self._has_id = tf.constant(catalogue.train_counts > 0)
        self._values = {
            name: tf.constant(catalogue.side_features[name], tf.int32) for name in self._features
        }

        def table(name: str, rows: int, offset: int) -> tf.Variable:
            return self.add_weight(
                name=name,
                shape=[rows, embedding_dim],
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=EMBEDDING_INIT_STD, seed=seed + offset
                ),
            )

        self._id_table = table("id", self.num_items + 1, 0)
        self._side_tables = {
            name: table(f"side_{name}", catalogue.side_vocab_sizes[name], offset)
            for offset, name in enumerate(self._features, start=1)
        }

    @property
    def tables(self) -> dict[str, tf.Variable]:
        """Embedding tables: that of the ids under ``ITEM_TABLE``, and one per side feature."""
        return {ITEM_TABLE: self._id_table, **self._side_tables}

    def call(self, items: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Embeds item indices.

        Args:
          items: int32 [...], 0 is padding.
          training: Whether to drop ids at random.

        Returns:
          float [..., d]; zeros for padding.
        """
        values = {name: tf.gather(self._values[name], items) for name in self._features}
        return self.pool(items, values, training)

    def pool(
        self, items: tf.Tensor, side_values: Mapping[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        """Embeds items with the given side features instead of the catalogue's.

        Args:
          items: int32 [...], item indices. 0 is an item without an id embedding,
            which is embedded from its side features alone.
          side_values: int32 [..., F] per side feature, indices of its values; 0
            is padding. F may be any size.
          training: Whether to drop ids at random.

        Returns:
          float [..., d]; zeros where there is neither an id nor a side feature.
        """
        has_id = tf.cast(tf.gather(self._has_id, items), self.compute_dtype)[..., tf.newaxis]
        if not self._features:
            return self._embed(self._id_table, items) * has_id
        total, voices = 0.0, 0.0
        for name in self._features:
            values = side_values[name]  # [..., F]
            present = tf.cast(values > 0, self.compute_dtype)
            embedded = self._embed(self._side_tables[name], values)  # [..., F, d]
            count = tf.reduce_sum(present, axis=-1, keepdims=True)  # [..., 1]
            total += tf.einsum("...fd,...f->...d", embedded, present) / tf.maximum(count, 1.0)
            voices += tf.cast(count > 0, self.compute_dtype)  # [..., 1]
        if training and self._id_dropout:
            kept = self._generator.uniform(tf.shape(has_id)) >= self._id_dropout
            has_id *= tf.cast(kept | (voices == 0), self.compute_dtype)
        total += self._embed(self._id_table, items) * has_id
        return total / tf.maximum(voices + has_id, 1.0)

    def side_vectors(self, items: tf.Tensor) -> tf.Tensor:
        """Embeds items [...] from their side features alone, float [..., d]; zeros without any."""
        if not self._features:
            return tf.zeros([*items.shape, self._id_table.shape[1]], self.compute_dtype)
        values = {name: tf.gather(self._values[name], items) for name in self._features}
        return self.pool(tf.zeros_like(items), values)

    def _embed(self, table: tf.Variable, indices: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(table, indices), self.compute_dtype)

    def encode_all(self) -> tf.Tensor:
        """Returns float [N + 1, d], the embeddings of all items in index order."""
        starts = range(0, self.num_items + 1, _BLOCK)
        blocks = [self(tf.range(a, min(a + _BLOCK, self.num_items + 1))) for a in starts]
        return tf.concat(blocks, axis=0)
