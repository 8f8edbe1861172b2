"""Buckets of the time from a behaviour to the newest one, or from the previous one to it."""

import numpy as np
import tensorflow as tf

# Bucket 0 is for unknown times and bucket 1 for gaps below one second. Bucket 2 begins at one
# second, each later bucket at twice the gap of the previous one, and the last one at 34 years.
_BOUNDARIES = 2 ** np.arange(31, dtype=np.int64)
NUM_BUCKETS = len(_BOUNDARIES) + 2


def time_gap_buckets(times: tf.Tensor) -> tf.Tensor:
    """Returns the bucket of the time between each behaviour and the person's newest one.

    The bucket of a gap of g seconds is ``1 + ceil(log2(g + 1))``. Buckets grow wider with
    the gap, because the exact time of a behaviour matters less the longer ago it was. Gaps
    are measured to the newest behaviour and not to the present, so that an answer does not
    depend on the time of the request.

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
    """Returns the bucket of the time between each behaviour and the previous one.

    The causal encoder uses these buckets, because later behaviours do not change them.

    Example:
      The first behaviour, one a minute later, and one at an unknown time:

      >>> step_buckets(tf.constant([[100, 160, 0]], tf.int64)).numpy().tolist()
      [[0, 7, 0]]

    Args:
      times: int64 [B, T], seconds since the epoch; 0 where unknown or padding.

    Returns:
      int32 [B, T], buckets as in `time_gap_buckets`; 0 for the first behaviour and where
      either time is unknown.
    """
    before = tf.pad(times[:, :-1], [[0, 0], [1, 0]])
    return _buckets(times - before, (times != 0) & (before != 0))


def _buckets(gaps: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    passed = tf.searchsorted(
        _BOUNDARIES, tf.reshape(tf.where(is_known, gaps, 0), [-1]), side="right"
    )
    return tf.where(is_known, 1 + tf.reshape(passed, tf.shape(gaps)), 0)
