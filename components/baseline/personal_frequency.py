"""What a person has had most often: the strongest simple baseline where people repeat."""

import tensorflow as tf

from model.tfx_functions import evaluation


def personal_frequency_ranks(
    targets: tf.Tensor, history: tf.Tensor, exclude_history: bool
) -> tf.Tensor:
    """Ranks by how often a person had an item, then how lately, then by train frequency.

    Example:
      Someone who had item 5 twice and item 2 once; item 1 is the most frequent of all:

      >>> personal_frequency_ranks(
      ...     tf.constant([[5, 2, 1]]), tf.constant([[5, 2, 5, 0]]), exclude_history=False
      ... ).numpy().tolist()
      [[1, 2, 3]]

    Args:
      targets: int32 [B, M], item indices, which follow train frequency.
      history: int32 [B, H], oldest first; 0 is padding.
      exclude_history: Take the history out of the candidates; then only train frequency
        is left to rank by.

    Returns:
      int32 [B, M]; what stands for targets below 1 does not matter.
    """
    if exclude_history:
        return evaluation.popularity_ranks(targets, history, exclude_history)
    # One person at a time: a [B, M, H] comparison would not fit many long histories.
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
    # No two items have the same last place. In 64 bits: 10,000 times 10,000 and more.
    score = tf.cast(count, tf.int64) * tf.size(known, tf.int64) + tf.cast(last, tf.int64)
    order = tf.argsort(tf.argsort(score, direction="DESCENDING"))  # [D], 0 is the best
    is_item = targets[:, tf.newaxis] == items[tf.newaxis, :]  # [M, D]
    own = 1 + tf.reduce_sum(tf.where(is_item, order[tf.newaxis, :], 0), axis=1)
    before = tf.reduce_sum(tf.cast(items[tf.newaxis, :] < targets[:, tf.newaxis], tf.int32), axis=1)
    # Each of the person's items that is less frequent in train moved a target down.
    others = targets + number - before
    return tf.where(tf.reduce_any(is_item, axis=1), own, others)
