"""Diversifies answers by category: ComiRec's controllable aggregation (arXiv 2005.09347 §3.3).

A greedy search chooses the set S that maximises ``Q(u, S) = sum_i f(u, i) + weight * sum_i
sum_j g(i, j)`` over i, j in S, where f is the score and g is 1 for two items of different
categories. Two items with several categories each differ if they share none of them. An item
without a category counts as different from no other item, because nothing is known about it.
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

    Each step takes the candidate with the largest ``quality + weight * (number of chosen
    items of other categories)``; of equal candidates it takes the earliest. With a weight of
    0 the result is the first ``k`` candidates in their order.

    Args:
      candidates: [B, P], distinct, best first.
      quality: float32 [B, P], f(u, i); -inf is no candidate.
      categories: int32 [B, P, F], see ``model.categories``.
      weight: float32 [B], not negative.
      k: int32 [].

    Returns:
      Candidates [B, k] in the order in which they were chosen, with their scores; padded
      with -1 and -inf.
    """
    batch, pool = tf.unstack(tf.shape(quality))
    has_category = tf.reduce_any(categories != NO_CATEGORY, axis=2)  # [B, P]

    def choose(
        step: tf.Tensor, open_quality: tf.Tensor, num_different: tf.Tensor, chosen: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
        gain = open_quality + weight[:, tf.newaxis] * num_different
        # top_k returns the earliest of equal values; argmax does not promise that.
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
