"""Label-aware attention: MIND section 3.4 (arXiv 1904.08030)."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from model.network.capsule import MASKED_LOGIT, interest_mask

_TINY = 1e-12
# Logarithms of two values of |score|^p: the value above which the softmax equals the hard
# choice in any case, and the largest value that is computed, which is safe in float32.
_HARD_LOG = 30.0
_MAX_LOG = 60.0
# Added to the power of the best interest, so that this interest stays the best where |score|^p
# is so small that all weights are equal in float32.
_TIE_BREAK = 1e-5


def attention_weights(scores: tf.Tensor, mask: tf.Tensor, power: float) -> tf.Tensor:
    """Computes ``softmax over k of pow(score_k, p)`` for any p from 0 to infinity.

    The power keeps the sign (``sign(x) |x|^p``), because an even p would otherwise rank
    -0.9 above 0.8. p = 0 gives equal weights and p = infinity the hard choice (the first
    interest wins ties). Nothing overflows, the best interest has the largest weight even
    where ``|x|^p`` underflows, and the result differs from the exact formula by at most
    1e-5.

    Example:
      >>> scores, mask = tf.constant([[-0.9, 0.8]]), tf.constant([[True, True]])
      >>> print(attention_weights(scores, mask, power=1).numpy().round(2))
      [[0.15 0.85]]
      >>> print(attention_weights(scores, mask, power=float("inf")).numpy())
      [[0. 1.]]

    Args:
      scores: float [B, K], dot products of interests and target item.
      mask: bool [B, K], active interests, at least one in each row.
      power: p.

    Returns:
      float [B, K]; rows sum to 1, inactive interests get 0.
    """
    masked = tf.cast(MASKED_LOGIT, scores.dtype)
    if math.isinf(power):
        best = tf.argmax(tf.where(mask, scores, masked), axis=-1)
        return tf.one_hot(best, scores.shape[-1], dtype=scores.dtype)
    if power == 0:
        even = tf.cast(mask, scores.dtype)
        return even / tf.reduce_sum(even, axis=-1, keepdims=True)
    exponent = power * tf.math.log(tf.maximum(tf.abs(scores), _TINY))  # log |x|^p
    best = tf.one_hot(tf.argmax(tf.where(mask, scores, masked), axis=-1), scores.shape[-1])
    best = tf.cast(best, scores.dtype)  # [B, K]
    # Powers are scaled down until the best one is representable. Beyond exp(_HARD_LOG), their
    # differences are so large that the softmax is the hard choice with or without scaling.
    excess = tf.nn.relu(tf.reduce_sum(exponent * best, axis=-1, keepdims=True) - _HARD_LOG)
    powered = tf.sign(scores) * tf.exp(tf.minimum(exponent - tf.stop_gradient(excess), _MAX_LOG))
    return tf.nn.softmax(tf.where(mask, powered + _TIE_BREAK * best, -math.inf), axis=-1)


@tf.keras.utils.register_keras_serializable("mind")
class LabelAwareAttention(tf.keras.layers.Layer):
    """Mixes a person's interests by how well each one fits the target item.

    ``v = sum over k of softmax(pow(u_k . e_target, p))_k u_k``. The model uses the
    layer in training only. Call it with ``[keys [B, k_max, d], query [B, 1, d]]``. To
    leave out inactive interests, add ``hist_len [B, 1]`` as a third entry. The layer
    returns ``[B, d]``.

    Example:
      Two interests and a target that fits the second one better:

      >>> keys = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
      >>> query = tf.constant([[[1.0, 1.0]]])
      >>> print(LabelAwareAttention(k_max=2)([keys, query]).numpy().round(2))
      [[0.27 1.46]]
      >>> print(LabelAwareAttention(k_max=2, pow_p=float("inf"))([keys, query]).numpy())
      [[0. 2.]]

    Args:
      k_max: K, the largest number of interests.
      pow_p: p; ``float("inf")`` picks the best interest alone.
      adaptive: Interests above the person's interest count are inactive; False
        uses all K regardless of the history length.
      temperature: Divides the dot products before the power is taken.

    Raises:
      ValueError: if ``pow_p`` is negative or ``temperature`` is not positive.
    """

    def __init__(
        self,
        k_max: int,
        pow_p: float = 1,
        *,
        adaptive: bool = True,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not pow_p >= 0:
            raise ValueError(f"pow_p must be 0 or more (inf included), received {pow_p}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, received {temperature}.")
        self.k_max = k_max
        self.pow_p = pow_p
        self.adaptive = adaptive
        self.temperature = temperature

    def call(
        self, inputs: Sequence[tf.Tensor], return_attention_weights: bool = False
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Returns the user vector for each target.

        Args:
          inputs: ``[keys [B, k_max, d], query [B, 1, d]]`` and optionally
            ``hist_len`` int [B, 1].
          return_attention_weights: Whether to return the weights too.

        Returns:
          The user vectors, float [B, d], or a pair of these and the weights,
          float [B, k_max].
        """
        keys, query = inputs[0], inputs[1]
        scores = tf.einsum("bkd,bd->bk", keys, query[:, 0, :]) / self.temperature
        if len(inputs) > 2:
            mask = interest_mask(tf.reshape(inputs[2], [-1]), self.k_max, self.adaptive)
        else:
            mask = tf.ones_like(scores, tf.bool)
        weights = attention_weights(scores, mask, self.pow_p)
        mixed = tf.einsum("bk,bkd->bd", weights, keys)
        return (mixed, weights) if return_attention_weights else mixed

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns [B, d]."""
        return tf.TensorShape([input_shape[0][0], input_shape[0][2]])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "k_max": self.k_max,
            "pow_p": self.pow_p,
            "adaptive": self.adaptive,
            "temperature": self.temperature,
        }
