"""Statistics of people's interests: their number and their similarity."""

import tensorflow as tf


def interest_statistics(interests: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
    """Measures how many interests are active and how similar they are.

    Args:
      interests: float [B, K, d].
      mask: bool [B, K].

    Returns:
      ``active_interests``, the mean number per person, and ``interest_cosine``, the mean
      cosine over all pairs of active interests of one person. A cosine of 1 means that the
      interests have collapsed into one; the value is 0 if nobody has two interests.
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
