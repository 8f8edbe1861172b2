"""Ranks by what a person has had most often: the strongest simple baseline if people repeat."""

import tensorflow as tf

from model.tfx_functions import evaluation


def personal_frequency_ranks(
    targets: tf.Tensor, history: tf.Tensor, exclude_history: bool
) -> tf.Tensor:
    """Ranks by how often a person had an item, then by how recently, then by train frequency.

    Example:
      A person had item 5 twice and item 2 once; item 1 is the most frequent of all items in train:

      >>> personal_frequency_ranks(
      ...     tf.constant([[5, 2, 1]]), tf.constant([[5, 2, 5, 0]]), exclude_history=False
      ... ).numpy().tolist()
      [[1, 2, 3]]

    Args:
      targets: int32 [B, M], item indices, which follow train frequency.
      history: int32 [B, H], oldest first; 0 is padding.
      exclude_history: Remove the history from the candidates, so that only train frequency
        ranks them.

    Returns:
      int32 [B, M], the rank of each target, from 1; the value for a target below 1 is
      meaningless.
    """
    if exclude_history:
        return evaluation.popularity_ranks(targets, history, exclude_history)
    # One person at a time, because a [B, M, H] comparison of many long histories needs too much
    # memory.
    return tf.map_fn(
        lambda row: _person_ranks(row[0], row[1]),
        (targets, history),
        fn_output_signature=tf.TensorSpec([None], tf.int32),
    )


def _person_ranks(targets: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    known = tf.boolean_mask(history, history > 0)  # [H']
    items, place, count = tf.unique_with_counts(known)  # [D], [H'], [D]
    number = tf.size(items)
    last = tf.math.unsorted_segment_max(tf.range(tf.size(known)), place, number)
    # No two items share a last place, so it breaks all ties. The product of two history lengths
    # may need 64 bits.
    score = tf.cast(count, tf.int64) * tf.size(known, tf.int64) + tf.cast(last, tf.int64)
    order = tf.argsort(tf.argsort(score, direction="DESCENDING"))  # [D], 0 is the best
    is_item = targets[:, tf.newaxis] == items[tf.newaxis, :]  # [M, D]
    own = 1 + tf.reduce_sum(tf.where(is_item, order[tf.newaxis, :], 0), axis=1)
    before = tf.reduce_sum(tf.cast(items[tf.newaxis, :] < targets[:, tf.newaxis], tf.int32), axis=1)
    # A target that the person has not had follows all of the person's items. Those that are more
    # frequent in train preceded it anyway; each of the others moves it down by one.
    others = targets + number - before
    return tf.where(tf.reduce_any(is_item, axis=1), own, others)
