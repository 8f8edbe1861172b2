"""Answers of several categories: ComiRec's controllable aggregation (arXiv 2005.09347 §3.3).

The chosen set S maximises, greedily, ``Q(u, S) = sum_i f(u, i) + weight * sum_i
sum_j g(i, j)`` over i, j in S: f is the score, g is 1 for two items of different
categories. An item of several categories differs from another if they share
none; one without any differs from nobody, for nothing says that it does.
"""

import numpy as np
import tensorflow as tf

from model.categories import NO_CATEGORY
from retrieval.search import Candidates


def diversify(
    candidates: Candidates,
    quality: tf.Tensor,
    categories: tf.Tensor,
    weight: tf.Tensor,
    k: tf.Tensor,
) -> Candidates:
    """Chooses ``k`` of the candidates, one by one.

    Each time, the candidate of the largest ``quality + weight * (chosen items of
    other categories)`` comes next, the earlier one of two that are equal. With a
    weight of 0 the first k candidates come, in their order.

    Args:
      candidates: [B, P], distinct, best first.
      quality: float32 [B, P], f(u, i); -inf is no candidate.
      categories: int32 [B, P, F], see ``model.categories``.
      weight: float32 [B], not negative.
      k: int32 [].

    Returns:
      Candidates [B, k] in the order of choice, with their scores; filled up with
      -1 and -inf.
    """
    batch, pool = tf.unstack(tf.shape(quality))
    has_category = tf.reduce_any(categories != NO_CATEGORY, axis=2)  # [B, P]

    def choose(
        step: tf.Tensor, open_quality: tf.Tensor, num_different: tf.Tensor, chosen: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
        gain = open_quality + weight[:, tf.newaxis] * num_different
        # Not argmax, which promises nothing about ties.
        best = tf.math.top_k(gain, 1).indices  # [B, 1]
        is_left = tf.gather(open_quality, best, batch_dims=1) > -np.inf  # [B, 1]
        mine = tf.gather(categories, best, batch_dims=1)  # [B, 1, F]
        shares = tf.reduce_any(
            (categories[:, :, :, tf.newaxis] == mine[:, :, tf.newaxis, :])
            & (categories != NO_CATEGORY)[:, :, :, tf.newaxis],
            axis=[2, 3],
        )  # [B, P]
        mine_is_known = tf.reduce_any(mine != NO_CATEGORY, axis=2)  # [B, 1]
        differs = has_category & mine_is_known & ~shares  # [B, P]
        open_quality = tf.where(tf.range(pool) == best, -np.inf, open_quality)
        chosen = chosen.write(step, tf.where(is_left, best, -1)[:, 0])
        return step + 1, open_quality, num_different + tf.cast(differs, tf.float32), chosen

    _, _, _, chosen = tf.while_loop(
        lambda step, *_: step < k,
        choose,
        (
            tf.constant(0),
            quality,
            tf.zeros_like(quality),
            tf.TensorArray(tf.int32, size=k, element_shape=[None]),
        ),
        shape_invariants=(
            tf.TensorShape([]),
            tf.TensorShape([None, None]),
            tf.TensorShape([None, None]),
            tf.TensorShape(None),
        ),
    )
    order = tf.transpose(tf.reshape(chosen.stack(), [k, batch]))  # [B, k]
    is_filled = order >= 0
    order = tf.maximum(order, 0)
    return Candidates(
        tf.where(is_filled, tf.gather(candidates.positions, order, batch_dims=1), -1),
        tf.where(is_filled, tf.gather(candidates.scores, order, batch_dims=1), -np.inf),
    )
