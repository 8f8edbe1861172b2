"""Interest extractors to compare with the capsule layer; they share its interface.

Every extractor is called with ``[behavior_embeddings [B, T, d], seq_len [B, 1]]``
and returns interests [B, K, d].
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from model.config import ModelConfig
from model.network.capsule import MASKED_LOGIT, CapsuleLayer


@tf.keras.utils.register_keras_serializable("mind")
class SelfAttentiveLayer(tf.keras.layers.Layer):
    """ComiRec-SA: ``A = softmax over t of W2 tanh(W1 e_t)``, interests ``A E``.

    Source: arXiv 2005.09347, section 3.2.

    Example:
      >>> layer = SelfAttentiveLayer(units=8, k_max=4)
      >>> layer([tf.random.normal([2, 10, 8]), tf.constant([[10], [3]])]).shape
      TensorShape([2, 4, 8])

    Args:
      units: d, size of behaviours and interests.
      k_max: K, number of interests.
      attention_units: Width of the hidden layer; ``4 units`` if not given.
      seed: Seeds the weights.
    """

    def __init__(
        self,
        units: int,
        k_max: int,
        attention_units: int | None = None,
        *,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.k_max = k_max
        self.attention_units = attention_units or 4 * units
        self.seed = seed
        initializer = tf.keras.initializers.GlorotUniform
        self._hidden = tf.keras.layers.Dense(
            self.attention_units,
            activation="tanh",
            use_bias=False,
            kernel_initializer=initializer(seed=seed),
            dtype=self._dtype_policy,
        )
        self._logits = tf.keras.layers.Dense(
            k_max,
            use_bias=False,
            kernel_initializer=initializer(seed=seed + 1),
            dtype=self._dtype_policy,
        )

    def call(self, inputs: Sequence[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Returns interests [B, K, d]."""
        behaviors, seq_len = inputs
        logits = tf.transpose(self._logits(self._hidden(behaviors)), [0, 2, 1])  # [B, K, T]
        valid = tf.sequence_mask(tf.reshape(seq_len, [-1]), tf.shape(behaviors)[1])
        logits = tf.where(valid[:, tf.newaxis, :], logits, tf.cast(MASKED_LOGIT, logits.dtype))
        return tf.matmul(tf.nn.softmax(logits, axis=-1), behaviors)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns [B, k_max, units]."""
        return tf.TensorShape([input_shape[0][0], self.k_max, self.units])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "k_max": self.k_max,
            "attention_units": self.attention_units,
            "seed": self.seed,
        }


@tf.keras.utils.register_keras_serializable("mind")
class AverageLayer(tf.keras.layers.Layer):
    """YouTube DNN: one interest, the mean of the behaviours; zero if there are none.

    Example:
      >>> behaviors = tf.constant([[[1.0, 3.0], [3.0, 5.0], [9.0, 9.0]]])
      >>> print(AverageLayer()([behaviors, tf.constant([[2]])]).numpy())
      [[[2. 4.]]]
    """

    def call(self, inputs: Sequence[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Returns the interest, float [B, 1, d]."""
        behaviors, seq_len = inputs
        valid = tf.sequence_mask(tf.reshape(seq_len, [-1]), tf.shape(behaviors)[1], behaviors.dtype)
        total = tf.einsum("bt,btd->bd", valid, behaviors)
        count = tf.maximum(tf.reduce_sum(valid, axis=1, keepdims=True), 1.0)
        return (total / count)[:, tf.newaxis, :]

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns [B, 1, d]."""
        return tf.TensorShape([input_shape[0][0], 1, input_shape[0][2]])


def make_extractor(
    config: ModelConfig, seed: int, dtype: tf.keras.mixed_precision.Policy | None = None
) -> tf.keras.layers.Layer:
    """Builds the interest extractor that ``config.extractor`` names."""
    if config.extractor == "average":
        return AverageLayer(name="average", dtype=dtype)
    if config.extractor == "self_attentive":
        return SelfAttentiveLayer(
            config.embedding_dim,
            config.num_interests,
            seed=seed,
            name="self_attentive",
            dtype=dtype,
        )
    return CapsuleLayer(
        input_units=config.embedding_dim,
        out_units=config.embedding_dim,
        max_len=config.history_length,
        k_max=config.num_interests,
        iteration_times=config.routing_iterations,
        init_std=config.routing_init_std,
        adaptive=config.adaptive_interests,
        routing=config.routing,
        mapping_init=config.mapping_init,
        cosine_scale=config.routing_cosine_scale,
        seed=seed,
        name="capsule",
        dtype=dtype,
    )
