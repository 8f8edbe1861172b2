"""Decides which of a person's interests are searched together.

Interests that point in nearly the same direction find nearly the same items, so one search is
enough for all of them. Its query is the sum of the interests. Each item that it finds is scored
with every interest separately, so merging affects only which candidates are found, not their
scores.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# As the minimum cosine, this merges no interests. (Rounding can bring a cosine slightly above 1.)
NEVER = np.inf


class Queries(NamedTuple):
    """The queries of a batch of people.

    Attributes:
      vectors: float32 [B, K, d], the query vectors.
      mask: bool [B, K], the queries that are searched.
    """

    vectors: tf.Tensor
    mask: tf.Tensor


def merge_interests(interests: tf.Tensor, mask: tf.Tensor, min_cosine: tf.Tensor) -> Queries:
    """Merges each person's similar interests.

    The active interests are taken in their order. Each joins the first earlier interest that is
    searched and whose cosine with it is at least ``min_cosine``. If there is none, it is searched
    itself. A person's queries do not depend on the other people in the batch.

    Args:
      interests: float32 [B, K, d]; K is static.
      mask: bool [B, K], the active interests.
      min_cosine: float32 []; ``NEVER`` merges none.

    Returns:
      The queries. The query of an interest that others joined is the sum of them all; if none
      joined, it is exactly the interest.
    """
    if interests.shape[1] == 1:
        return Queries(interests, mask)
    return tf.cond(
        min_cosine == NEVER,
        lambda: Queries(interests, mask),
        lambda: _merge(interests, mask, min_cosine),
    )


def _merge(interests: tf.Tensor, mask: tf.Tensor, min_cosine: tf.Tensor) -> Queries:
    directions = tf.math.l2_normalize(interests, axis=-1)
    is_like = tf.matmul(directions, directions, transpose_b=True) >= min_cosine  # [B, K, K]
    searched: list[tf.Tensor] = []  # by interest, bool [B]
    for number, active in enumerate(tf.unstack(mask, axis=1)):
        if number:
            near = tf.stack(searched, axis=1) & is_like[:, :number, number]
            active &= ~tf.reduce_any(near, axis=1)
        searched.append(active)
    leads = tf.stack(searched, axis=1)  # [B, K]
    # For each interest the first searched interest that is similar to it; itself if it is searched.
    places = tf.argmax(leads[:, tf.newaxis, :] & is_like, axis=2, output_type=tf.int32)
    num_interests = len(searched)
    places = tf.where(leads, tf.range(num_interests), tf.where(mask, places, -1))
    membership = tf.one_hot(places, num_interests, axis=1)  # [B, K searched, K member]
    sums = tf.matmul(membership, interests)
    is_alone = tf.reduce_sum(membership, axis=2, keepdims=True) <= 1.0
    return Queries(tf.where(is_alone, interests, sums), leads)
