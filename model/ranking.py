"""Exact ranking of the whole catalogue in blocks.

Training, evaluation and the benchmarks all use this definition. An item's score is its
largest dot product with an active interest, to which the repeat path may add a bonus if
the person has already had the item. All interests share one budget of N results, and
items with equal scores are ordered by index.
"""

import math
from typing import NamedTuple

import tensorflow as tf

# Floats in the largest intermediate of one block (64 MB).
_BLOCK_FLOATS = 2**24


class OwnBonus(NamedTuple):
    """What to add to the scores of people's own items, see `RepeatScore.bonus`.

    Attributes:
      items: int32 [B, D], distinct item indices; 0 marks an empty position.
      bonus: float32 [B, D], 0 or more; 0 at empty positions.
    """

    items: tf.Tensor
    bonus: tf.Tensor

    def of_users(self, users: slice) -> "OwnBonus":
        """Returns the bonus of some rows."""
        return OwnBonus(self.items[users], self.bonus[users])


def _score_block(
    interests: tf.Tensor,
    mask: tf.Tensor,
    item_embeddings: tf.Tensor,
    own: OwnBonus | None,
) -> tf.Tensor:
    """Largest dot product with an active interest plus the own bonus, float [U, N + 1]."""
    shape = tf.shape(interests)
    flat = tf.reshape(interests, [-1, shape[2]])  # [U * K, d]
    scores = tf.matmul(flat, item_embeddings, transpose_b=True)
    scores = tf.reshape(scores, [shape[0], shape[1], -1])  # [U, K, N + 1]
    best = tf.reduce_max(tf.where(mask[:, :, tf.newaxis], scores, -math.inf), axis=1)
    if own is None:
        return best
    return tf.tensor_scatter_nd_add(best, _places(own.items), tf.reshape(own.bonus, [-1]))


def _remove(scores: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Sets the scores [U, N + 1] of items [U, H] to minus infinity; 0 is padding."""
    return tf.tensor_scatter_nd_min(scores, _places(items), tf.fill([tf.size(items)], -math.inf))


def _places(items: tf.Tensor) -> tf.Tensor:
    """Positions of the items [U, H] in a matrix of scores [U, N + 1], int32 [U * H, 2]."""
    users = tf.repeat(tf.range(tf.shape(items)[0]), tf.shape(items)[1])
    return tf.stack([users, tf.reshape(items, [-1])], axis=1)


def _mask_candidates(
    scores: tf.Tensor, history: tf.Tensor, exclude_history: bool, retrievable: tf.Tensor | None
) -> tf.Tensor:
    """Sets the scores [U, N + 1] of all items that are not candidates to minus infinity."""
    if retrievable is not None:
        scores = tf.where(retrievable[tf.newaxis, :], scores, -math.inf)
    if exclude_history:
        scores = _remove(scores, history)
    # Padding is never a candidate.
    return tf.concat([tf.fill([tf.shape(scores)[0], 1], -math.inf), scores[:, 1:]], axis=1)


def users_per_block(num_rows: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Number of people to rank at once; each needs ``width`` rows of ``num_rows`` floats."""
    # Two divisions, because the product of a large catalogue and many targets exceeds int32.
    return tf.maximum(1, _BLOCK_FLOATS // tf.maximum(1, num_rows) // tf.maximum(1, width))


def _as_int32(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(values), tf.int32)


@tf.function(reduce_retracing=True)
def target_ranks(
    interests: tf.Tensor,
    mask: tf.Tensor,
    item_embeddings: tf.Tensor,
    history: tf.Tensor,
    targets: tf.Tensor,
    exclude_history: bool,
    retrievable: tf.Tensor | None = None,
    own: OwnBonus | None = None,
) -> tf.Tensor:
    """Computes the exact rank of every target among the catalogue's items.

    Example:
      There are items 1 and 2, and a person with one interest, which is nearer to item 2:

      >>> items = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> target_ranks(
      ...     interests=tf.constant([[[0.1, 0.9]]]), mask=tf.constant([[True]]),
      ...     item_embeddings=items, history=tf.constant([[0]]),
      ...     targets=tf.constant([[1, 2]]), exclude_history=False,
      ... ).numpy().tolist()
      [[2, 1]]

    Args:
      interests: float [B, K, d].
      mask: bool [B, K], active interests.
      item_embeddings: float [N + 1, d]; row 0 is padding.
      history: int [B, H], items to leave out; 0 is padding.
      targets: int [B, M]; 0 is an unknown item, -1 is padding.
      exclude_history: Whether to remove the history from the candidates. A target
        in the history then no longer counts as a target.
      retrievable: bool [N + 1]; rows with False are not candidates. By default, all
        items are candidates.
      own: The bonus of people's own items; none by default.

    Returns:
      int32 [B, M]; 1 is the best rank. A target that cannot be found (unknown or
      not retrievable) has the rank N + 1, a miss at every cut-off below N + 1. The
      value is 0 where there is no target: padding, a repetition of an earlier target
      of the row, or a target in the excluded history.
    """
    history, targets = _as_int32(history), _as_int32(targets)
    num_users, num_targets = tf.shape(targets)[0], tf.shape(targets)[1]
    num_rows = tf.shape(item_embeddings)[0]
    width = tf.maximum(tf.shape(interests)[1], num_targets)
    block = users_per_block(num_rows, width)
    num_blocks = (num_users + block - 1) // block
    ranks = tf.TensorArray(tf.int32, size=num_blocks, infer_shape=False, element_shape=[None, None])
    for i in tf.range(num_blocks):
        users = slice(i * block, (i + 1) * block)
        bonus = own.of_users(users) if own is not None else None
        scores = _score_block(interests[users], mask[users], item_embeddings, bonus)
        ranks = ranks.write(
            i,
            ranks_from_scores(scores, history[users], targets[users], exclude_history, retrievable),
        )
    return tf.reshape(ranks.concat(), [num_users, num_targets])


def ranks_from_scores(
    scores: tf.Tensor,
    history: tf.Tensor,
    targets: tf.Tensor,
    exclude_history: bool,
    retrievable: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes `target_ranks` from given scores of all items, float [U, N + 1]."""
    history, targets = _as_int32(history), _as_int32(targets)
    scores = _mask_candidates(scores, history, exclude_history, retrievable)
    counted = counted_targets(targets, history, exclude_history)
    return tf.where(counted, _block_ranks(scores, targets), 0)


def counted_targets(targets: tf.Tensor, history: tf.Tensor, exclude_history: bool) -> tf.Tensor:
    """Returns which targets count in the metrics.

    Padding does not count, and a repeated item counts once. If the history is
    excluded from the candidates, targets in the history do not count either.

    Args:
      targets: int32 [B, M]; 0 is an unknown item (each 0 is a different item), -1 is
        padding.
      history: int32 [B, H]; 0 is padding.
      exclude_history: Whether the history is excluded from the candidates.

    Returns:
      bool [B, M].
    """
    counted = _is_first_occurrence(targets) & (targets >= 0)
    if exclude_history:
        in_history = tf.reduce_any(targets[:, :, tf.newaxis] == history[:, tf.newaxis, :], axis=2)
        counted &= ~(in_history & (targets > 0))
    return counted


def _block_ranks(scores: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns int32 [U, M]; N + 1 where the target's score is minus infinity."""
    num_rows = tf.shape(scores)[1]
    pairs = tf.cast(tf.where(targets > 0), tf.int32)  # [P, 2]: real targets only
    items = tf.gather_nd(targets, pairs)  # [P]
    rows = tf.gather(scores, pairs[:, 0])  # [P, N + 1]
    # Read from the same matrix, because a second product could differ in the last bit.
    score = tf.gather(rows, items, batch_dims=1)[:, tf.newaxis]  # [P, 1]
    tied_before = (rows == score) & (tf.range(num_rows)[tf.newaxis, :] < items[:, tf.newaxis])
    better = tf.reduce_sum(tf.cast((rows > score) | tied_before, tf.int32), axis=1)
    rank = tf.where(score[:, 0] > -math.inf, better + 1, num_rows)
    return tf.tensor_scatter_nd_update(tf.fill(tf.shape(targets), num_rows), pairs, rank)


def _is_first_occurrence(targets: tf.Tensor) -> tf.Tensor:
    """Returns bool [B, M]; every unknown target (0) counts as a different item."""
    positions = tf.range(tf.shape(targets)[1])
    earlier = positions[:, tf.newaxis] > positions[tf.newaxis, :]  # [M, M]
    same = targets[:, :, tf.newaxis] == targets[:, tf.newaxis, :]  # [B, M, M]
    return ~tf.reduce_any(same & earlier, axis=2) | (targets == 0)


@tf.function(reduce_retracing=True)
def top_k(
    interests: tf.Tensor,
    mask: tf.Tensor,
    item_embeddings: tf.Tensor,
    history: tf.Tensor,
    k: int,
    exclude_history: bool,
    retrievable: tf.Tensor | None = None,
    own: OwnBonus | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the k best items of every person by exact search.

    Args:
      interests: float [B, K, d].
      mask: bool [B, K], active interests.
      item_embeddings: float [N + 1, d]; row 0 is padding.
      history: int [B, H]; 0 is padding.
      k: Number of items; reduced to N if it is larger.
      exclude_history: Whether to remove the history from the candidates.
      retrievable: bool [N + 1]; rows with False are not candidates. By default, all
        items are candidates.
      own: The bonus of people's own items; none by default.

    Returns:
      The items, int32 [B, min(k, N)], in descending order of score, and their scores.
      If a person has fewer than k candidates, the remaining items are 0 and their
      scores are -inf.
    """
    history = _as_int32(history)
    num_users, num_rows = tf.shape(interests)[0], tf.shape(item_embeddings)[0]
    k = tf.minimum(k, num_rows - 1)
    block = users_per_block(num_rows, tf.shape(interests)[1])
    num_blocks = (num_users + block - 1) // block
    all_items = tf.TensorArray(tf.int32, num_blocks, infer_shape=False, element_shape=[None, None])
    all_scores = tf.TensorArray(
        tf.float32, num_blocks, infer_shape=False, element_shape=[None, None]
    )
    for i in tf.range(num_blocks):
        users = slice(i * block, (i + 1) * block)
        bonus = own.of_users(users) if own is not None else None
        scores = _score_block(interests[users], mask[users], item_embeddings, bonus)
        scores = _mask_candidates(scores, history[users], exclude_history, retrievable)
        best = tf.math.top_k(scores, k)
        all_items = all_items.write(i, tf.where(best.values > -math.inf, best.indices, 0))
        all_scores = all_scores.write(i, best.values)
    shape = [num_users, k]
    return tf.reshape(all_items.concat(), shape), tf.reshape(all_scores.concat(), shape)
