"""Interests of every prefix of a sequence: a causal encoder before the capsules."""

import tensorflow as tf

from model.config import ModelConfig
from model.network.causal_capsule import CausalCapsuleLayer
from model.network.causal_encoder import CausalEncoder


class PrefixInterests(tf.keras.layers.Layer):
    """Encodes behaviours, routes them and adds the current intent to every interest.

    The current intent of a prefix is the encoder's output at its last behaviour, which
    attends to the whole prefix. The interests are ``z_kt = u_kt + g * h_t``, with the
    encoder's output ``h``, its capsules ``u`` and learned factors ``g`` [d] that start at
    zero.

    Call the layer with ``behavior_embeddings [B, T, d]``, T <= history_length, padding
    last. It returns ``[B, T, K, d]``; the interests at position t depend only on the
    behaviours up to t.

    Args:
      config: The network; its ``encoder`` must be set.
      seed: Seeds the weights.
      dtype: Mixed-precision policy of the layers; Keras' global policy if not given.
    """

    def __init__(
        self,
        config: ModelConfig,
        seed: int,
        dtype: tf.keras.mixed_precision.Policy | None = None,
    ):
        super().__init__(name="prefix_interests", dtype=dtype)
        assert config.encoder is not None
        self._encoder = CausalEncoder(
            config.embedding_dim,
            config.history_length,
            config.encoder.layers,
            config.encoder.heads,
            config.encoder.hidden_units or None,
            config.encoder.dropout,
            seed=seed + 400,
            name="encoder",
            dtype=dtype,
        )
        self._capsules = CausalCapsuleLayer(
            config.embedding_dim,
            config.history_length,
            config.num_interests,
            config.routing_iterations,
            config.routing_init_std,
            cosine_scale=config.routing_cosine_scale,
            mapping_init=config.mapping_init,
            adaptive=config.adaptive_interests,
            recency=config.recency_position,
            seed=seed,
            name="capsule",
            dtype=dtype,
        )
        self._present = self.add_weight(
            name="present_intent", shape=[config.embedding_dim], initializer="zeros"
        )

    def call(
        self, inputs: tf.Tensor, last: tf.Tensor | None = None, training: bool | None = None
    ) -> tf.Tensor:
        """Returns the interests of every prefix, or of one prefix of each sequence.

        Args:
          inputs: float [B, T, d].
          last: int32 [B], the position at which the one prefix to return ends; None returns
            all prefixes.
          training: Whether to apply dropout.

        Returns:
          float [B, T, K, d], or with ``last`` float [B, K, d].
        """
        encoded = self._encoder(inputs, training=training)  # [B, T, d]
        present = encoded * tf.cast(self._present, encoded.dtype)
        if last is not None:
            present = tf.gather(present, last, batch_dims=1)  # [B, d]
        return self._capsules(encoded, last=last) + present[..., tf.newaxis, :]
