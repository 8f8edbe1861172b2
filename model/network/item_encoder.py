"""Item embeddings pooled from ids and side features: MIND section 3.2."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from model.catalogue import Catalogue

# Items encoded at once by `encode_all`; bounds the [rows, F, d] intermediate.
_BLOCK = 65_536
# Name of the table of the item ids among `ItemEncoder.tables`.
ITEM_TABLE = "item_id"
# Standard deviation of all embeddings at the start.
EMBEDDING_INIT_STD = 0.02


class ItemEncoder(tf.keras.layers.Layer):
    """Average pool of an item's id embedding and its side-feature embeddings.

    A feature with several values is first averaged over them, so each feature
    has one voice. Missing features are left out of the average. An item never
    seen in training has no id embedding worth using: it is pooled from its side
    features alone, and is a zero vector if it has none.

    For such items to be found, side features must be able to stand alone: in
    training, an item with side features loses its id at rate ``id_dropout``.

    Example:
      Item 3 was never seen in training and has no side features; 0 is padding:

      >>> import numpy as np
      >>> encoder = ItemEncoder(Catalogue(np.array([0, 5, 2, 0])), embedding_dim=4)
      >>> vectors = encoder(tf.constant([[1, 2, 3, 0]]))
      >>> vectors.shape
      TensorShape([1, 4, 4])
      >>> tf.reduce_any(vectors != 0, axis=-1).numpy().tolist()
      [[True, True, False, False]]

    Args:
      catalogue: Counts and side features, kept as constants.
      embedding_dim: d.
      side_features: False pools ids only.
      id_dropout: Rate, in training only.
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
        """Embedding tables: of the ids under ``ITEM_TABLE``, and of each side feature."""
        return {ITEM_TABLE: self._id_table, **self._side_tables}

    def call(self, items: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Embeds item indices.

        Args:
          items: int32 [...], 0 is padding.
          training: Drop ids out.

        Returns:
          float [..., d]; zeros for padding.
        """
        values = {name: tf.gather(self._values[name], items) for name in self._features}
        return self.pool(items, values, training)

    def pool(
        self, items: tf.Tensor, side_values: Mapping[str, tf.Tensor], training: bool | None = None
    ) -> tf.Tensor:
        """Embeds items by given side features, in place of the catalogue's.

        Args:
          items: int32 [...], item indices; 0 for an item without an id of its
            own: the side features alone make its embedding.
          side_values: int32 [..., F] per side feature, indices of its values; 0
            is padding. F may be any.
          training: Drop ids out.

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
        """Embeds items [...] by their side features alone, float [..., d]; zeros without any."""
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
