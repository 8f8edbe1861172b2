"""How long before the newest behaviour each behaviour was, in buckets."""

import numpy as np
import tensorflow as tf

# Bucket 1 is less than a second, each further one begins at twice the time; the last at
# 34 years. 0 is an unknown time.
_BOUNDARIES = 2 ** np.arange(31, dtype=np.int64)
NUM_BUCKETS = len(_BOUNDARIES) + 2


def time_gap_buckets(times: tf.Tensor) -> tf.Tensor:
    """Buckets of the time between each behaviour and the person's newest one.

    The bucket of a gap of g seconds is ``1 + ceil(log2(g + 1))``: intervals grow with
    their distance, as the use of their exact length shrinks. The newest behaviour
    stands for the present, so that an answer does not depend on when it is asked for.

    Args:
      times: int64 [B, T], seconds since the epoch; 0 where unknown or padding.

    Returns:
      int32 [B, T] from 0 (unknown) to ``NUM_BUCKETS - 1``.
    """
    is_known = times != 0
    newest = tf.reduce_max(tf.where(is_known, times, times.dtype.min), axis=1, keepdims=True)
    gaps = tf.where(is_known, newest - times, 0)  # [B, T]
    passed = tf.searchsorted(_BOUNDARIES, tf.reshape(gaps, [-1]), side="right")
    return tf.where(is_known, 1 + tf.reshape(passed, tf.shape(times)), 0)
