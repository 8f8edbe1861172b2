"""How long before the newest behaviour, or after the one before it, a behaviour was."""

import numpy as np
import tensorflow as tf

# Bucket 1 holds gaps below one second. Each further bucket begins at twice the gap of the
# one before, and the last one at 34 years. Bucket 0 is for unknown times.
_BOUNDARIES = 2 ** np.arange(31, dtype=np.int64)
NUM_BUCKETS = len(_BOUNDARIES) + 2


def time_gap_buckets(times: tf.Tensor) -> tf.Tensor:
    """Buckets of the time between each behaviour and the person's newest one.

    The bucket of a gap of g seconds is ``1 + ceil(log2(g + 1))``: the longer ago a
    behaviour was, the less its exact time tells, so buckets grow wider. Gaps are counted
    from the newest behaviour and not from the present, so that an answer does not depend
    on the time of the request.

    Example:
      A minute before the newest behaviour, that behaviour itself, and an unknown time:

      >>> time_gap_buckets(tf.constant([[100, 160, 0]], tf.int64)).numpy().tolist()
      [[7, 1, 0]]

    Args:
      times: int64 [B, T], seconds since the epoch; 0 where unknown or padding.

    Returns:
      int32 [B, T] from 0 (unknown) to ``NUM_BUCKETS - 1``.
    """
    is_known = times != 0
    newest = tf.reduce_max(tf.where(is_known, times, times.dtype.min), axis=1, keepdims=True)
    return _buckets(newest - times, is_known)


def step_buckets(times: tf.Tensor) -> tf.Tensor:
    """Buckets of the time between each behaviour and the one before it.

    An encoder of prefixes reads these: what comes later does not change them.

    Example:
      The first behaviour, one a minute later, and one at an unknown time:

      >>> step_buckets(tf.constant([[100, 160, 0]], tf.int64)).numpy().tolist()
      [[0, 7, 0]]

    Args:
      times: int64 [B, T], seconds since the epoch; 0 where unknown or padding.

    Returns:
      int32 [B, T], buckets as above; 0 where either time is unknown, and for the first.
    """
    before = tf.pad(times[:, :-1], [[0, 0], [1, 0]])
    return _buckets(times - before, (times != 0) & (before != 0))


def _buckets(gaps: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    passed = tf.searchsorted(
        _BOUNDARIES, tf.reshape(tf.where(is_known, gaps, 0), [-1]), side="right"
    )
    return tf.where(is_known, 1 + tf.reshape(passed, tf.shape(gaps)), 0)
