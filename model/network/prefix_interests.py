"""Interests of every prefix of a sequence: a causal encoder before the capsules."""

import tensorflow as tf

from model.config import ModelConfig
from model.network.causal_capsule import CausalCapsuleLayer
from model.network.causal_encoder import CausalEncoder


class PrefixInterests(tf.keras.layers.Layer):
    """Encodes behaviours, routes them, and adds the present intent to every interest.

    The present intent of a prefix is the encoder's output at its last behaviour, which has
    attended to all of the prefix: ``z_kt = u_kt + g * h_t`` with capsules ``u`` of the
    encoder's output ``h`` and factors ``g`` [d] that start at zero.

    Call with ``behavior_embeddings [B, T, d]``, T <= history_length, padding last;
    returns ``[B, T, K, d]``, which for each t depends on the first t behaviours only.

    Args:
      config: ``encoder`` must be given.
      seed: Seeds the weights.
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
        """Returns the interests of every prefix, or of one of each sequence.

        Args:
          inputs: float [B, T, d].
          last: int32 [B], the last position of the prefix that is wanted; None wants all.
          training: Drop out.

        Returns:
          float [B, T, K, d], or with ``last`` float [B, K, d].
        """
        encoded = self._encoder(inputs, training=training)  # [B, T, d]
        present = encoded * tf.cast(self._present, encoded.dtype)
        if last is not None:
            present = tf.gather(present, last, batch_dims=1)  # [B, d]
        return self._capsules(encoded, last=last) + present[..., tf.newaxis, :]
