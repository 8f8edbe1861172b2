"""Which of a person's interests are searched together.

Interests that point in nearly the same direction find nearly the same items, so one search does
for all of them. It looks for the sum of the interests, and what it finds is scored with each
interest on its own: only the candidates depend on the merging, never their scores.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# As the least cosine of interests that are merged: merges none. (Rounding can bring a cosine
# slightly above 1.)
NEVER = np.inf


class Queries(NamedTuple):
    """What is searched for a batch of people.

    Attributes:
      vectors: float32 [B, K, d].
      mask: bool [B, K], those that are searched.
    """

    vectors: tf.Tensor
    mask: tf.Tensor


def merge_interests(interests: tf.Tensor, mask: tf.Tensor, min_cosine: tf.Tensor) -> Queries:
    """Puts each person's like interests together.

    In their order, an active interest joins the first one before it that is searched and
    whose cosine with it is at least ``min_cosine``; if there is none, it is searched itself.
    A person's queries depend on nobody else in the batch.

    Args:
      interests: float32 [B, K, d]; K is static.
      mask: bool [B, K], the active interests.
      min_cosine: float32 []; ``NEVER`` merges none.

    Returns:
      At the place of each interest that is searched the sum of those that joined it, or
      exactly the interest if none did.
    """
    num_interests = interests.shape[1]
    if num_interests == 1:
        return Queries(interests, mask)
    directions = tf.math.l2_normalize(interests, axis=-1)
    is_like = tf.matmul(directions, directions, transpose_b=True) >= min_cosine  # [B, K, K]
    searched: list[tf.Tensor] = []  # by interest, bool [B]
    members: list[tf.Tensor] = []  # by interest, bool [B, K]: the one whose search it joins
    itself = tf.eye(num_interests, dtype=tf.bool)
    for number in range(num_interests):
        active = mask[:, number]
        joins = tf.zeros_like(mask)
        if number:
            near = tf.stack(searched, axis=1) & is_like[:, :number, number] & active[:, tf.newaxis]
            first = tf.cumsum(tf.cast(near, tf.int32), axis=1) == 1
            joins = tf.pad(near & first, [[0, 0], [0, num_interests - number]])
        searched.append(active & ~tf.reduce_any(joins, axis=1))
        members.append(joins | (searched[-1][:, tf.newaxis] & itself[number]))
    membership = tf.stack(members, axis=2)  # [B, K searched, K member]
    sums = tf.matmul(tf.cast(membership, interests.dtype), interests)
    is_alone = tf.math.count_nonzero(membership, axis=2, keepdims=True) <= 1
    return Queries(tf.where(is_alone, interests, sums), tf.stack(searched, axis=1))
