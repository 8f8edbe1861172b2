"""Behaviour-to-Interest dynamic routing: MIND section 3.3 (arXiv 1904.08030)."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Added to a squared norm before taking the root, so that the gradient at zero is finite.
_EPSILON = 1e-9
# Used instead of minus infinity in a softmax, because differences of infinities are NaN.
MASKED_LOGIT = -1e9
# 2 ** 30 is the largest power of two that fits in an int32.
_MAX_LOG2 = 30


def squash(capsules: tf.Tensor) -> tf.Tensor:
    """Shrinks every vector to a length below 1 and keeps its direction.

    ``squash(z) = ||z||^2 / (1 + ||z||^2) * z / ||z||`` (equation 6 of the paper).

    Example:
      >>> print(squash(tf.constant([3.0, 4.0])).numpy().round(3))
      [0.577 0.769]

    Args:
      capsules: float [..., d].

    Returns:
      float [..., d]; zero vectors stay zero and have a finite gradient.
    """
    squared_norm = tf.reduce_sum(tf.square(capsules), axis=-1, keepdims=True)
    return capsules * squared_norm / (1.0 + squared_norm) * tf.math.rsqrt(squared_norm + _EPSILON)


def interest_count(history_length: tf.Tensor, max_interests: int) -> tf.Tensor:
    """Number of interests of a person: ``max(1, min(K, floor(log2 |history|)))``.

    Section 3.3 of the paper does not say how to round; this function is the only
    place that decides it. It computes the logarithm in integers, because in float32
    ``log(8) / log(2)`` may fall below 3.

    Example:
      >>> interest_count(tf.constant([1, 4, 15, 1000]), max_interests=4).numpy().tolist()
      [1, 2, 3, 4]

    Args:
      history_length: int [...], number of behaviours.
      max_interests: K.

    Returns:
      int32 [...], from 1 to K.
    """
    powers = tf.constant([2**j for j in range(1, min(max_interests, _MAX_LOG2) + 1)], tf.int32)
    reached = tf.cast(history_length, tf.int32)[..., tf.newaxis] >= powers
    return tf.maximum(1, tf.reduce_sum(tf.cast(reached, tf.int32), axis=-1))


def interest_mask(
    history_length: tf.Tensor, max_interests: int, adaptive: bool = True
) -> tf.Tensor:
    """Returns which of the K interests of each person are active.

    Args:
      history_length: int [B].
      max_interests: K.
      adaptive: False activates all K for everybody.

    Returns:
      bool [B, K]; the active ones come first.
    """
    if not adaptive:
        return tf.fill([tf.shape(history_length)[0], max_interests], True)
    return tf.sequence_mask(interest_count(history_length, max_interests), max_interests)


def mapping_initializer(name: str, seed: int) -> tf.keras.initializers.Initializer:
    """Returns the initializer of the bilinear map S.

    Args:
      name: ``identity``, or ``glorot`` (random).
      seed: Seed of the random initializer.

    Raises:
      ValueError: if ``name`` is neither of these.
    """
    if name not in ("glorot", "identity"):
        raise ValueError(f"mapping_init must be 'glorot' or 'identity', received {name!r}.")
    if name == "identity":
        return tf.keras.initializers.Identity()
    return tf.keras.initializers.GlorotUniform(seed=seed)


def _softmax_over_interests(logits: tf.Tensor) -> tf.Tensor:
    """Softmax of routing logits [B, K, T] over the interests."""
    # tf.nn.softmax transposes for every axis but the last, which takes four times as long.
    shifted = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    return shifted / tf.reduce_sum(shifted, axis=1, keepdims=True)


@tf.keras.utils.register_keras_serializable("mind")
class CapsuleLayer(tf.keras.layers.Layer):
    """Groups a person's behaviours into interest capsules.

    With behaviours ``e_t``, a bilinear map ``S`` shared by all pairs of behaviour and
    interest, and routing logits ``b_kt``, one iteration is (section 3.3, algorithm 1)::

        w_kt = softmax over k of b_kt      (0 on padding)
        z_k  = sum over t of w_kt S e_t
        u_k  = squash(z_k)
        b_kt = b_kt + u_k . S e_t          (not after the last iteration)

    With ``cosine_scale`` c > 0, the last line adds ``c cos(z_k, S e_t)`` instead of the
    dot product. The sharpness of the routing then does not depend on the length of the
    behaviour vectors, and the interests become less similar. (This is the E step of a
    mixture of von Mises-Fisher distributions with concentration c,
    https://jmlr.org/papers/v6/banerjee05a.html, except that logits accumulate over the
    iterations.)

    The initial logits come from ``N(0, init_std^2)``. Training draws them anew for every
    person and call. Otherwise they are one fixed draw from ``seed``, so that a person's
    interests depend only on that person's behaviours. Gradients flow through the last
    iteration only. Interests above ``interest_count`` take no part in the softmax, and
    their capsules are zero vectors.

    Call the layer with ``[behavior_embeddings [B, T, input_units], seq_len [B, 1]]``,
    T <= max_len, behaviours first and padding after them. It returns
    ``[B, k_max, out_units]``.

    Example:
      Of two people, the one with ten behaviours has three interests and the one with three
      behaviours has one. The rows of inactive interests are zero:

      >>> layer = CapsuleLayer(input_units=8, out_units=8, max_len=10, k_max=4)
      >>> behaviors = tf.random.normal([2, 10, 8])
      >>> interests = layer([behaviors, tf.constant([[10], [3]])])
      >>> interests.shape
      TensorShape([2, 4, 8])
      >>> tf.reduce_any(interests != 0, axis=-1).numpy().sum(axis=1).tolist()
      [3, 1]

    Args:
      input_units: Size of a behaviour embedding.
      out_units: Size of an interest capsule.
      max_len: Longest sequence.
      k_max: K, the largest number of interests.
      iteration_times: r, routing iterations.
      init_std: Standard deviation of the initial routing logits.
      adaptive: Use the interest count of each person; False activates all K.
      routing: ``b2i`` as above, or ``shared_logits``: the routing of widely
        copied listings, kept for comparison. There, everybody shares one variable
        [1, K, max_len], every call (also at inference) adds to it the agreement
        summed over the batch, and the softmax runs over the sequence.
      mapping_init: Initial value of S: ``glorot`` (random) or ``identity``.
      cosine_scale: c in the formula above; 0 adds the dot product, as published.
      seed: Seeds the random S, the draws in training and the fixed draw.

    Raises:
      ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        input_units: int,
        out_units: int,
        max_len: int,
        k_max: int,
        iteration_times: int = 3,
        init_std: float = 1.0,
        *,
        adaptive: bool = True,
        routing: str = "b2i",
        mapping_init: str = "glorot",
        cosine_scale: float = 0.0,
        seed: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if routing not in ("b2i", "shared_logits"):
            raise ValueError(f"routing must be 'b2i' or 'shared_logits', received {routing!r}.")
        if cosine_scale < 0:
            raise ValueError(f"cosine_scale must be at least 0, received {cosine_scale}.")
        for name, value in (
            ("max_len", max_len),
            ("k_max", k_max),
            ("iteration_times", iteration_times),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, received {value}.")
        self.input_units = input_units
        self.out_units = out_units
        self.max_len = max_len
        self.k_max = k_max
        self.iteration_times = iteration_times
        self.init_std = init_std
        self.adaptive = adaptive
        self.routing = routing
        self.mapping_init = mapping_init
        self._mapping_initializer = mapping_initializer(mapping_init, seed)
        self.cosine_scale = cosine_scale
        self.seed = seed
        # Its state is part of a checkpoint, so that a resumed training continues with
        # the draws that an uninterrupted training would have made.
        self._generator = tf.random.Generator.from_seed(seed)

    def build(self, input_shape: Any) -> None:
        """Creates S, and the shared logits if ``routing`` needs them."""
        self.bilinear_mapping = self.add_weight(
            name="bilinear_mapping",
            shape=[self.input_units, self.out_units],
            initializer=self._mapping_initializer,
        )
        if self.routing == "shared_logits":
            self.shared_logits = self.add_weight(
                name="shared_logits",
                shape=[1, self.k_max, self.max_len],
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=self.init_std, seed=self.seed
                ),
                trainable=False,
            )
        super().build(input_shape)

    def call(
        self,
        inputs: Sequence[tf.Tensor],
        training: bool | None = None,
        routing_logits: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Routes behaviours to interests.

        Args:
          inputs: ``[behavior_embeddings [B, T, input_units], seq_len [B, 1]]``.
          training: Whether to draw new initial routing logits.
          routing_logits: Initial logits [B, K, T] (or a shape that broadcasts to
            it), used instead of drawn ones.

        Returns:
          float [B, k_max, out_units].

        Raises:
          ValueError: if T is above ``max_len``.
        """
        behaviors, seq_len = inputs
        steps = behaviors.shape[1]
        if steps is not None and steps > self.max_len:
            raise ValueError(
                f"The sequence has {steps} positions and max_len is {self.max_len}; "
                "keep the newest max_len behaviours or build the layer with a larger max_len."
            )
        seq_len = tf.cast(tf.reshape(seq_len, [-1]), tf.int32)  # [B]
        # [B, T, out]; all iterations and interests use the same product.
        mapped = tf.einsum(
            "bti,io->bto", behaviors, tf.cast(self.bilinear_mapping, behaviors.dtype)
        )
        valid = tf.sequence_mask(seq_len, tf.shape(behaviors)[1])[:, tf.newaxis, :]  # [B, 1, T]
        if self.routing == "shared_logits":
            return self._route_with_shared_logits(mapped, valid)
        if routing_logits is None:
            routing_logits = self._initial_logits(tf.shape(behaviors), bool(training))
        logits = tf.cast(routing_logits, mapped.dtype)
        active = interest_mask(seq_len, self.k_max, self.adaptive)[:, :, tf.newaxis]  # [B, K, 1]
        logits = tf.where(active, logits, tf.cast(MASKED_LOGIT, mapped.dtype))  # [B, K, T]
        weighted = tf.cast(active & valid, mapped.dtype)  # [B, K, T]
        frozen = tf.stop_gradient(mapped)
        compared = frozen  # [B, T, out], what capsules are compared with
        if self.cosine_scale:
            compared = self.cosine_scale * tf.math.l2_normalize(frozen, -1, epsilon=_EPSILON)
        for _ in range(self.iteration_times - 1):
            weights = _softmax_over_interests(logits) * weighted
            capsules = tf.matmul(weights, frozen)  # [B, K, out]
            if self.cosine_scale:
                capsules = tf.math.l2_normalize(capsules, -1, epsilon=_EPSILON)
            else:
                capsules = squash(capsules)
            logits += tf.matmul(capsules, compared, transpose_b=True)
        weights = tf.stop_gradient(_softmax_over_interests(logits) * weighted)
        return squash(tf.matmul(weights, mapped))

    def _initial_logits(self, shape: tf.Tensor, training: bool) -> tf.Tensor:
        """Draws [B, K, T] for each person in training, else [1, K, T] fixed by the seed."""
        if training:
            return self._generator.normal([shape[0], self.k_max, shape[1]], stddev=self.init_std)
        # Drawing the full width and cutting it gives a position the same logit under
        # any padding.
        fixed = tf.random.stateless_normal(
            [1, self.k_max, self.max_len], seed=[self.seed, 0], stddev=self.init_std, alg="philox"
        )
        return fixed[:, :, : shape[1]]

    def _route_with_shared_logits(self, mapped: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        steps = tf.shape(mapped)[1]
        capsules = tf.zeros([])
        for _ in range(self.iteration_times):
            logits = tf.where(valid, self.shared_logits[:, :, :steps], MASKED_LOGIT)  # [B, K, T]
            capsules = squash(tf.matmul(tf.nn.softmax(logits, axis=-1), mapped))
            agreement = tf.matmul(capsules, mapped, transpose_b=True)  # [B, K, T]
            summed = tf.reduce_sum(agreement, axis=0, keepdims=True)
            self.shared_logits.assign_add(
                tf.pad(summed, [[0, 0], [0, 0], [0, self.max_len - steps]])
            )
        return capsules

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """Returns [B, k_max, out_units]."""
        return tf.TensorShape([input_shape[0][0], self.k_max, self.out_units])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "input_units": self.input_units,
            "out_units": self.out_units,
            "max_len": self.max_len,
            "k_max": self.k_max,
            "iteration_times": self.iteration_times,
            "init_std": self.init_std,
            "adaptive": self.adaptive,
            "routing": self.routing,
            "mapping_init": self.mapping_init,
            "cosine_scale": self.cosine_scale,
            "seed": self.seed,
        }
