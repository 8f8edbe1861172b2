"""Behaviour-to-Interest routing of all prefixes of a sequence at once."""

from typing import Any

import numpy as np
import tensorflow as tf

from model.network.capsule import MASKED_LOGIT, interest_count, mapping_initializer, squash
from model.network.causal_encoder import causal_distance

_EPSILON = 1e-9


@tf.keras.utils.register_keras_serializable("mind")
class CausalCapsuleLayer(tf.keras.layers.Layer):
    """Groups the behaviours of every prefix into interest capsules.

    `CapsuleLayer` compares a behaviour with the capsules of the whole history. This layer
    compares it with the capsules of the prefix that *ends with it*. The weight of a
    behaviour then does not depend on later behaviours, and the capsules of all prefixes
    are running sums. With behaviours ``e_j``, prototypes ``p_k`` and recency factors
    ``r``, for all t::

        b_kj = p_k . e_j
        z_kt = sum over j <= t of r_(t-j) softmax over k of b_kj  S e_j
        u_kt = squash(z_kt)
        b_kj = b_kj + u_kj . S e_j                 (not after the last iteration)

    There are two more differences from the paper's section 3.3. First, routing starts from
    learned prototypes and not from noise, so that an interest has the same meaning for
    everybody and serving needs no random draw. Second, the gradient reaches the
    prototypes; as in `CapsuleLayer`, it treats what the iterations add to the logits as
    constant. Interest k takes part in the softmax of behaviour j if the prefix up to j has
    at least k interests (equation 9).

    Call the layer with ``behavior_embeddings [B, T, units]``, T <= max_len, padding last.
    It returns ``[B, T, k_max, units]``.

    Example:
      >>> layer = CausalCapsuleLayer(units=8, max_len=10, k_max=4)
      >>> behaviors = tf.random.normal([1, 10, 8])
      >>> whole, beginning = layer(behaviors), layer(behaviors[:, :3])
      >>> whole.shape
      TensorShape([1, 10, 4, 8])
      >>> bool(tf.reduce_max(tf.abs(whole[:, :3] - beginning)) < 1e-5)
      True

    Args:
      units: d, size of behaviours and capsules.
      max_len: Longest sequence.
      k_max: K, the largest number of interests.
      iteration_times: r, routing iterations.
      init_std: Standard deviation of the initial routing logits for behaviours whose root
        mean square is 1, such as the outputs of the encoder.
      cosine_scale: c; above 0, the last line adds ``c cos(z_kj, S e_j)`` instead of the
        dot product, see `CapsuleLayer`.
      mapping_init: Initial value of S: ``glorot`` (random) or ``identity``.
      adaptive: Use the interest count of each prefix; False activates all K.
      recency: Learn ``r_n``, which starts as ``1 / sqrt(1 + n)``; False keeps it at 1.
      seed: Seeds the weights.

    Raises:
      ValueError: if ``mapping_init`` is unknown.
    """

    def __init__(
        self,
        units: int,
        max_len: int,
        k_max: int,
        iteration_times: int = 3,
        init_std: float = 1.0,
        *,
        cosine_scale: float = 0.0,
        mapping_init: str = "glorot",
        adaptive: bool = True,
        recency: bool = True,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.max_len = max_len
        self.k_max = k_max
        self.iteration_times = iteration_times
        self.init_std = init_std
        self.cosine_scale = cosine_scale
        self.mapping_init = mapping_init
        self._mapping_initializer = mapping_initializer(mapping_init, seed)
        self.adaptive = adaptive
        self.recency = recency
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Creates S, the prototypes and the recency factors."""
        self._mapping = self.add_weight(
            name="bilinear_mapping",
            shape=[self.units, self.units],
            initializer=self._mapping_initializer,
        )
        self._prototypes = self.add_weight(
            name="prototypes",
            shape=[self.units, self.k_max],
            initializer=tf.keras.initializers.RandomNormal(
                stddev=self.init_std * self.units**-0.5, seed=self.seed
            ),
        )
        if self.recency:
            self._recency_weight = self.add_weight(
                name="recency_weight",
                shape=[self.max_len],
                initializer=tf.keras.initializers.Constant(
                    -0.5 * np.log1p(np.arange(self.max_len))
                ),
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, last: tf.Tensor | None = None) -> tf.Tensor:
        """Routes behaviours to interests.

        Args:
          inputs: float [B, T, units].
          last: int32 [B]. If given, the layer computes only one prefix of each sequence,
            the one that ends at this position, which saves the sums of all others.

        Returns:
          float [B, T, k_max, units], the capsules of every prefix, or with ``last``
          float [B, k_max, units].
        """
        steps = tf.shape(inputs)[1]
        distance, is_past = causal_distance(steps)
        sums = tf.cast(is_past, inputs.dtype)  # [T, T], row t sums over the positions up to t
        if self.recency:
            # Slicing first makes the gradient dense. With a sparse one, LazyAdam would update
            # only the distances that occur in the batch, which depend on its width.
            weights = tf.exp(tf.gather(self._recency_weight[:steps], distance))
            sums *= tf.cast(weights, inputs.dtype)
        mapped = tf.einsum("bti,io->bto", inputs, tf.cast(self._mapping, inputs.dtype))
        logits = tf.einsum("bti,ik->btk", inputs, tf.cast(self._prototypes, inputs.dtype))
        if self.adaptive:
            count = interest_count(tf.range(1, steps + 1), self.k_max)  # [T]
            active = tf.sequence_mask(count, self.k_max)  # [T, K]
            logits = tf.where(active, logits, tf.cast(MASKED_LOGIT, logits.dtype))
        frozen, agreement = tf.stop_gradient(mapped), tf.zeros_like(logits)
        compared = frozen  # [B, T, d], what capsules are compared with
        if self.cosine_scale:
            compared = self.cosine_scale * tf.math.l2_normalize(frozen, -1, epsilon=_EPSILON)
        for _ in range(self.iteration_times - 1):
            weights = tf.nn.softmax(tf.stop_gradient(logits) + agreement)  # [B, T, K]
            capsules = self._running_sums(sums, weights, frozen)  # [B, T, K, d]
            if self.cosine_scale:
                capsules = tf.math.l2_normalize(capsules, -1, epsilon=_EPSILON)
            else:
                capsules = squash(capsules)
            agreement += tf.einsum("btkd,btd->btk", capsules, compared)
        weights = tf.nn.softmax(logits + tf.stop_gradient(agreement))
        if last is None:
            return squash(self._running_sums(sums, weights, mapped))
        weights *= tf.gather(sums, last)[:, :, tf.newaxis]  # [B, T, K]
        return squash(tf.matmul(weights, mapped, transpose_a=True))

    def _running_sums(self, sums: tf.Tensor, weights: tf.Tensor, mapped: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(mapped)
        weighted = weights[:, :, :, tf.newaxis] * mapped[:, :, tf.newaxis, :]  # [B, T, K, d]
        flat = tf.reshape(weighted, [shape[0], shape[1], self.k_max * self.units])
        return tf.reshape(tf.matmul(sums, flat), [shape[0], shape[1], self.k_max, self.units])

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns [B, T, k_max, units]."""
        return tf.TensorShape([*input_shape[:2], self.k_max, self.units])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "max_len": self.max_len,
            "k_max": self.k_max,
            "iteration_times": self.iteration_times,
            "init_std": self.init_std,
            "cosine_scale": self.cosine_scale,
            "mapping_init": self.mapping_init,
            "adaptive": self.adaptive,
            "recency": self.recency,
            "seed": self.seed,
        }
