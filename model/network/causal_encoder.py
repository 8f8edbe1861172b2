"""Causal self-attention over a person's behaviours."""

from typing import Any

import tensorflow as tf

from model.network.capsule import MASKED_LOGIT
from model.network.dropout import dropout_factors

_EPSILON = 1e-6


def causal_distance(steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how far each position j lies before position t, and whether ``j <= t``.

    Example:
      >>> distance, is_past = causal_distance(tf.constant(3))
      >>> distance.numpy().tolist()
      [[0, 0, 0], [1, 0, 0], [2, 1, 0]]
      >>> is_past.numpy().tolist()
      [[True, False, False], [True, True, False], [True, True, True]]

    Args:
      steps: T.

    Returns:
      int32 [T, T], ``max(0, t - j)``, and bool [T, T], ``j <= t``.
    """
    position = tf.range(steps)
    distance = position[:, tf.newaxis] - position[tf.newaxis, :]
    return tf.maximum(distance, 0), distance >= 0


@tf.keras.utils.register_keras_serializable("mind")
class RootMeanSquareNorm(tf.keras.layers.Layer):
    """``x / sqrt(mean(x^2)) * g``: RMSNorm (Zhang & Sennrich, arXiv 1910.07467).

    It has no bias, so that zero vectors, such as padding, stay zero.

    Example:
      >>> print(RootMeanSquareNorm()(tf.constant([[3.0, 4.0]])).numpy().round(3))
      [[0.849 1.131]]
    """

    def build(self, input_shape: Any) -> None:
        """Creates the factors g, which start at 1."""
        self._factors = self.add_weight(name="factors", shape=[input_shape[-1]], initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns float [..., d] for float [..., d]."""
        mean_square = tf.reduce_mean(tf.square(inputs), axis=-1, keepdims=True)
        return inputs * tf.math.rsqrt(mean_square + _EPSILON) * self._factors


@tf.keras.utils.register_keras_serializable("mind")
class CausalEncoder(tf.keras.layers.Layer):
    """Adds to each behaviour the context of the earlier ones.

    With RMSNorm ``N`` before both parts (pre-norm), each layer computes::

        x = x + W_o attention(N(x))                 over positions j <= t
        x = x + W_2 (silu(W_1 N(x)) * W_3 N(x))     (SwiGLU, arXiv 2002.05202)

    The attention logit of position t for position j is ``q_t . k_j / sqrt(d_head)`` plus a
    learned number for the head and the distance ``t - j``, as in T5 (arXiv 1910.10683,
    section 2.1), but with a separate number for every distance. There are no absolute
    positions and no biases. Row t of the output depends only on the input rows up to t, so
    that one pass over a sequence encodes all its prefixes (SASRec, arXiv 1808.09781).

    Call the layer with ``behavior_embeddings [B, T, units]``, T <= max_len, padding last.
    It returns ``[B, T, units]``.

    Example:
      >>> encoder = CausalEncoder(units=8, max_len=10, num_layers=2, num_heads=2)
      >>> behaviors = tf.random.normal([1, 10, 8])
      >>> whole, beginning = encoder(behaviors), encoder(behaviors[:, :4])
      >>> bool(tf.reduce_max(tf.abs(whole[:, :4] - beginning)) < 1e-5)
      True

    Args:
      units: d, size of an embedding.
      max_len: Longest sequence.
      num_layers: Number of layers.
      num_heads: Number of attention heads; must divide ``units``.
      hidden_units: Width inside the second part; ``2 units`` if not given.
      dropout: Rate on the output of both parts of each layer, in training only.
      seed: Seeds weights and dropout.

    Raises:
      ValueError: if ``num_heads`` does not divide ``units``.
    """

    def __init__(
        self,
        units: int,
        max_len: int,
        num_layers: int = 2,
        num_heads: int = 2,
        hidden_units: int | None = None,
        dropout: float = 0.0,
        *,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if units % num_heads:
            raise ValueError(
                f"num_heads must divide units ({units}), received num_heads={num_heads}."
            )
        self.units = units
        self.max_len = max_len
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_units = hidden_units or 2 * units
        self.dropout = dropout
        self.seed = seed
        # Its state is part of a checkpoint, see CapsuleLayer.
        self._generator = tf.random.Generator.from_seed(seed)
        self._input_norm = self._norm("input_norm")
        self._output_norm = self._norm("output_norm")
        self._layers = [self._layer(number) for number in range(num_layers)]

    def _norm(self, name: str) -> RootMeanSquareNorm:
        return RootMeanSquareNorm(name=name, dtype=self._dtype_policy)

    def _layer(self, number: int) -> dict[str, tf.keras.layers.Layer]:
        def dense(name: str, units: int, place: int) -> tf.keras.layers.Dense:
            return tf.keras.layers.Dense(
                units,
                use_bias=False,
                kernel_initializer=tf.keras.initializers.GlorotUniform(
                    seed=self.seed + 10 * number + place
                ),
                name=f"{name}_{number}",
                dtype=self._dtype_policy,
            )

        return {
            "attention_norm": self._norm(f"attention_norm_{number}"),
            "query_key_value": dense("query_key_value", 3 * self.units, 1),
            "attended": dense("attended", self.units, 2),
            "hidden_norm": self._norm(f"hidden_norm_{number}"),
            "gate_and_hidden": dense("gate_and_hidden", 2 * self.hidden_units, 3),
            "output": dense("output", self.units, 4),
        }

    def build(self, input_shape: Any) -> None:
        """Creates the learned numbers for the distances, which start at 0."""
        self._distance_logits = self.add_weight(
            name="distance_logits",
            shape=[self.num_layers, self.num_heads, self.max_len],
            initializer="zeros",
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Encodes every prefix.

        Args:
          inputs: float [B, T, units], oldest first.
          training: Whether to apply dropout.

        Returns:
          float [B, T, units]. Vectors have a root mean square of about 1, but are zero at
          positions up to which all inputs are zero.
        """
        hidden = self._input_norm(inputs)  # [B, T, d]
        distance, is_past = causal_distance(tf.shape(inputs)[1])
        for number, layer in enumerate(self._layers):
            logits = tf.gather(self._distance_logits[number], distance, axis=1)  # [H, T, T]
            logits = tf.cast(tf.where(is_past, logits, MASKED_LOGIT), hidden.dtype)
            attended = self._attention(layer, hidden, logits)
            hidden += self._dropped(layer["attended"](attended), training)
            both = layer["gate_and_hidden"](layer["hidden_norm"](hidden))
            gate, inner = tf.split(both, 2, axis=-1)  # [B, T, hidden_units] each
            hidden += self._dropped(layer["output"](tf.nn.silu(gate) * inner), training)
        return self._output_norm(hidden)

    def _attention(
        self, layer: dict[str, tf.keras.layers.Layer], hidden: tf.Tensor, logits: tf.Tensor
    ) -> tf.Tensor:
        shape = tf.shape(hidden)
        mapped = layer["query_key_value"](layer["attention_norm"](hidden))  # [B, T, 3 d]
        size = self.units // self.num_heads
        mapped = tf.reshape(mapped, [shape[0], shape[1], 3, self.num_heads, size])
        query, key, value = tf.unstack(tf.transpose(mapped, [2, 0, 3, 1, 4]))  # [B, H, T, d/H]
        scores = tf.matmul(query * size**-0.5, key, transpose_b=True) + logits  # [B, H, T, T]
        attended = tf.matmul(tf.nn.softmax(scores), value)  # [B, H, T, d/H]
        return tf.reshape(tf.transpose(attended, [0, 2, 1, 3]), shape)

    def _dropped(self, hidden: tf.Tensor, training: bool | None) -> tf.Tensor:
        if not training or not self.dropout:
            return hidden
        factors = dropout_factors(tf.shape(hidden), self.dropout, self._generator)
        return hidden * tf.cast(factors, hidden.dtype)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns [B, T, units]."""
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "max_len": self.max_len,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
            "seed": self.seed,
        }
