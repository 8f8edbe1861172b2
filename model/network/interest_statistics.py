"""How many interests people have, and how alike they are."""

import tensorflow as tf


def interest_statistics(interests: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """How many interests are active and how alike they are.

    Args:
      interests: float [B, K, d].
      mask: bool [B, K].

    Returns:
      ``active_interests``, the mean number per person, and ``interest_cosine``,
      the mean cosine of two active interests of one person (1: collapsed; 0 if
      nobody has two).
    """
    active = tf.cast(mask, interests.dtype)
    unit = tf.math.l2_normalize(interests, axis=-1) * active[:, :, tf.newaxis]
    cosine = tf.matmul(unit, unit, transpose_b=True)  # [B, K, K]
    # Ordered pairs without the diagonal.
    pairs = tf.square(tf.reduce_sum(active, axis=1)) - tf.reduce_sum(active, axis=1)
    total = tf.reduce_sum(cosine, axis=[1, 2]) - tf.linalg.trace(cosine)
    return {
        "active_interests": tf.reduce_mean(tf.reduce_sum(active, axis=1)),
        "interest_cosine": tf.math.divide_no_nan(tf.reduce_sum(total), tf.reduce_sum(pairs)),
    }
