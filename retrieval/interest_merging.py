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
    # The first place among those that are searched and like it; its own if it is one of them.
    places = tf.argmax(leads[:, tf.newaxis, :] & is_like, axis=2, output_type=tf.int32)
    num_interests = len(searched)
    places = tf.where(leads, tf.range(num_interests), tf.where(mask, places, -1))
    membership = tf.one_hot(places, num_interests, axis=1)  # [B, K searched, K member]
    sums = tf.matmul(membership, interests)
    is_alone = tf.reduce_sum(membership, axis=2, keepdims=True) <= 1.0
    return Queries(tf.where(is_alone, interests, sums), leads)
