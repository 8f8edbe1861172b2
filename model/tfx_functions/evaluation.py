"""Code shared by all ``evaluate`` signatures, which turn raw examples into exact ranks."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from contract import evaluation_outputs as outputs
from contract import features
from model import ranking

RankFn = Callable[[tf.Tensor, tf.Tensor, bool], tf.Tensor]


class EvaluationRows(NamedTuple):
    """People with held-out items.

    Attributes:
      transformed: Outputs of Transform.
      history: int32 [B, H], all known items before the targets, including items
        older than the history that the model reads; 0 is padding.
      targets: int32 [B, M]; 0 is an unknown item, -1 is padding.
    """

    transformed: Mapping[str, Any]
    history: tf.Tensor
    targets: tf.Tensor


def parse_rows(
    examples: tf.Tensor,
    raw_feature_spec: Mapping[str, Any],
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> EvaluationRows:
    """Parses and transforms raw examples, string [B]."""
    transformed = transform(tf.io.parse_example(examples, raw_feature_spec))
    targets = transformed[features.TARGETS]
    sequence = tf.RaggedTensor.from_sparse(transformed[features.SEQUENCE])
    known_targets = tf.math.bincount(
        tf.cast(targets.indices[:, 0], tf.int32),
        weights=tf.cast(targets.values > 0, tf.int64),
        minlength=tf.cast(targets.dense_shape[0], tf.int32),
        dtype=tf.int64,
    )  # [B]
    history_length = sequence.row_lengths() - known_targets
    in_history = tf.ragged.range(sequence.row_lengths()) < history_length[:, tf.newaxis]
    history = tf.ragged.boolean_mask(sequence, in_history).to_tensor()
    return EvaluationRows(
        transformed,
        tf.cast(history, tf.int32),
        tf.cast(tf.sparse.to_dense(targets, default_value=-1), tf.int32),
    )


def ranks_with_and_without_history(
    rows: EvaluationRows, rank_fn: RankFn, excluded_key: str, included_key: str
) -> dict[str, tf.Tensor]:
    """Returns the ranks of the targets, [B, M], with the history excluded and included.

    Args:
      rows: The people.
      rank_fn: Called with targets, history and whether to exclude the history;
        returns 1-based ranks [B, M]. Its values for padding and unknown targets
        are ignored.
      excluded_key: Output name of the ranks with the history excluded.
      included_key: Output name of the ranks with the history included.
    """
    result = {}
    for exclude, key in ((True, excluded_key), (False, included_key)):
        ranks = tf.cast(rank_fn(rows.targets, rows.history, exclude), tf.int32)
        ranks = tf.where(rows.targets == 0, outputs.UNKNOWN_RANK, ranks)
        counted = ranking.counted_targets(rows.targets, rows.history, exclude)
        result[key] = tf.where(counted, ranks, 0)
    return result


def popularity_ranks(targets: tf.Tensor, history: tf.Tensor, exclude_history: bool) -> tf.Tensor:
    """Returns the targets' ranks when items are ranked by train frequency, int32 [B, M].

    Item indices follow train frequency, so that an index is a rank. With the history
    excluded, every distinct history item that is more frequent than a target moves the
    target up by one.
    """
    if not exclude_history:
        return targets
    ordered = tf.sort(history, axis=1)
    first = tf.concat(
        [tf.ones_like(ordered[:, :1], tf.bool), ordered[:, 1:] != ordered[:, :-1]], axis=1
    )
    distinct = tf.where(first & (ordered > 0), ordered, tf.int32.max)  # [B, H]
    more_frequent = distinct[:, tf.newaxis, :] < targets[:, :, tf.newaxis]  # [B, M, H]
    return targets - tf.reduce_sum(tf.cast(more_frequent, tf.int32), axis=2)
