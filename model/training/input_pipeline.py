"""Cuts training examples from whole sequences inside tf.data."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from contract.features import HISTORY, HISTORY_TIME, NUM_CONTEXT, SEQUENCE, SEQUENCE_TIME
from model.config import RepeatConfig
from model.network.own_items import OwnItems
from model.training.own_candidates import Prefixes, own_candidates, shortened

TARGET = "target"
PROFILE = "profile"
PAIRS = "pairs"
OWN = "own"

# Sequences shuffled together, and sequences whose windows are cut at once (a block). The
# windows of a block are permuted, so that a batch mixes the people of a block.
_SHUFFLE_SEQUENCES = 65_536
_BLOCK_SEQUENCES = 2_048
# The block size with ``repeat``: each window's own candidates need as much memory again.
_BLOCK_SEQUENCES_WITH_OWN = 512
# The shuffle moves chunks of randomly chosen sequences. With single sequences, tf.data's
# overhead per element would exceed the time for cutting their windows.
_CHUNK_SEQUENCES = 32
# Largest number of row batches in an epoch whose seeds do not collide with the next epoch's.
_MAX_BATCHES = 2**32


class Windows(NamedTuple):
    """(history, target) pairs.

    Attributes:
      histories: int32 [P, T], oldest first, zeros at the end.
      targets: int32 [P].
      rows: int32 [P], the sequence of each pair.
      times: int64 [P, T], seconds of the histories, zeros at the end; None without
        times.
      own: Candidates from the person's own items, [P, 1 + n]; None without ``repeat``.
    """

    histories: tf.Tensor
    targets: tf.Tensor
    rows: tf.Tensor
    times: tf.Tensor | None
    own: OwnItems | None = None


def cut_windows(
    sequences: tf.RaggedTensor,
    num_context: tf.Tensor,
    history_length: int,
    seed: tf.Tensor,
    targets_per_sequence: int = 0,
    times: tf.RaggedTensor | None = None,
    repeat: RepeatConfig | None = None,
) -> Windows:
    """Turns sequences into (history, target) pairs, in random order.

    Every position from ``max(1, num_context)`` on is a target, whose history is
    the ``history_length`` items before it.

    Args:
      sequences: int [S, None], item indices, oldest first.
      num_context: int [S], number of leading items that serve as history only.
      history_length: T.
      seed: int [2], seeds all random draws.
      targets_per_sequence: 0 makes every position a target; n draws n positions
        per sequence (with replacement), so that all sequences have the same weight.
      times: int64 [S, None], seconds of every item; 0 is unknown.
      repeat: If given, also draw candidates from people's own items, see
        `own_candidates`.
    """
    items = tf.cast(sequences.flat_values, tf.int32)
    starts = tf.cast(sequences.row_starts(), tf.int32)  # [S]
    first = tf.maximum(1, tf.cast(num_context, tf.int32))  # [S]
    num_targets = tf.maximum(0, tf.cast(sequences.row_lengths(), tf.int32) - first)
    seeds = tf.random.split(tf.cast(seed, tf.int32), 2)  # [2, 2]
    if targets_per_sequence:
        share = tf.random.stateless_uniform(
            [tf.shape(num_targets)[0], targets_per_sequence], seed=seeds[0]
        )
        drawn = tf.cast(share * tf.cast(num_targets, tf.float32)[:, tf.newaxis], tf.int32)
        offsets = tf.boolean_mask(drawn, num_targets > 0)  # [S', n]
        has_target = tf.cast(tf.where(num_targets > 0)[:, 0], tf.int32)
        rows = tf.repeat(has_target, targets_per_sequence)  # [P]
        offsets = tf.reshape(offsets, [-1])  # [P]
    else:
        ragged = tf.ragged.range(num_targets)
        rows = tf.cast(ragged.value_rowids(), tf.int32)  # [P]
        offsets = tf.cast(ragged.flat_values, tf.int32)  # [P]
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(rows), seed=seeds[1]))
    rows, offsets = tf.gather(rows, order), tf.gather(offsets, order)
    position = tf.gather(first, rows) + offsets  # [P], inside the sequence
    length = tf.minimum(position, history_length)  # [P]
    target_index = tf.gather(starts, rows) + position  # [P], inside `items`
    column = tf.range(history_length)[tf.newaxis, :]  # [1, T]
    valid = column < length[:, tf.newaxis]  # [P, T]
    index = (target_index - length)[:, tf.newaxis] + column
    index = tf.where(valid, index, 0)
    histories = tf.where(valid, tf.gather(items, index), 0)
    if times is not None:
        times = tf.where(valid, tf.gather(times.flat_values, index), 0)
    own = None
    if repeat is not None:
        whole = Prefixes(tf.gather(starts, rows), target_index, target_index)
        prefixes = shortened(whole, repeat.horizon, seeds[0] + 1)
        own = own_candidates(
            items, prefixes, repeat.history_length, repeat.candidates, seeds[0] + 2
        )
    return Windows(histories, tf.gather(items, target_index), rows, times, own)


def cut_segments(
    sequences: tf.RaggedTensor,
    num_context: tf.Tensor,
    history_length: int,
    batch_size: int,
    seed: tf.Tensor,
    times: tf.RaggedTensor | None = None,
) -> Windows:
    """Cuts sequences into segments in which every position is an example.

    A sequence with at most ``history_length`` targets is one segment. A longer sequence is
    cut every ``history_length`` positions, from a random start, so that each of its targets
    is in exactly one segment.

    Args:
      sequences: int [S, None], item indices, oldest first.
      num_context: int [S], number of leading items that serve as history only.
      history_length: T.
      batch_size: Size of groups of segments with similar lengths. The groups are in random
        order. A batch of this size then has little padding.
      seed: int [2], seeds the cuts and the order.
      times: int64 [S, None], seconds of every item; 0 is unknown.

    Returns:
      Windows with ``targets`` int32 [P, T]: the item after each position of the history, or
      0 where there is nothing to learn.
    """
    items = tf.cast(sequences.flat_values, tf.int32)
    starts = tf.cast(sequences.row_starts(), tf.int32)  # [S]
    number = tf.maximum(tf.cast(sequences.row_lengths(), tf.int32) - 1, 0)  # targets, [S]
    seeds = tf.random.split(tf.cast(seed, tf.int32), 3)  # [3, 2]
    share = tf.random.stateless_uniform(tf.shape(number), seed=seeds[0])
    phase = tf.where(
        number > history_length, tf.cast(share * float(history_length), tf.int32), 0
    )  # [S], number of positions by which the first segment is shorter
    ragged = tf.ragged.range(-(-(number + phase) // history_length))
    rows = tf.cast(ragged.value_rowids(), tf.int32)  # [P]
    begin = tf.cast(ragged.flat_values, tf.int32) * history_length - tf.gather(phase, rows)
    end = tf.minimum(begin + history_length, tf.gather(number, rows))
    begin = tf.maximum(begin, 0)
    first = tf.maximum(1, tf.cast(num_context, tf.int32)) - 1  # [S], first position with a target
    useful = end > tf.gather(first, rows)
    rows, begin, end = (tf.boolean_mask(values, useful) for values in (rows, begin, end))
    # Sort by length, with random order among equal lengths, then shuffle groups of similar length.
    noise = tf.random.stateless_uniform(tf.shape(rows), seed=seeds[1])
    order = tf.argsort(tf.cast(end - begin, tf.float32) + noise)
    group = tf.range(tf.size(order)) // batch_size
    draws = tf.random.stateless_uniform([-(-tf.size(order) // batch_size)], seed=seeds[2])
    order = tf.gather(order, tf.argsort(tf.gather(draws, group), stable=True))
    rows, begin, end = (tf.gather(values, order) for values in (rows, begin, end))
    column = tf.range(history_length)[tf.newaxis, :]  # [1, T]
    position = begin[:, tf.newaxis] + column  # [P, T], inside the sequence
    valid = position < end[:, tf.newaxis]
    index = tf.where(valid, tf.gather(starts, rows)[:, tf.newaxis] + position, 0)
    learned = valid & (position >= tf.gather(first, rows)[:, tf.newaxis])
    histories = tf.where(valid, tf.gather(items, index), 0)
    targets = tf.where(learned, tf.gather(items, tf.where(valid, index + 1, 0)), 0)
    if times is not None:
        times = tf.where(valid, tf.gather(times.flat_values, index), 0)
    return Windows(histories, targets, rows, times)


def training_batches(
    sequences: tf.data.Dataset,
    history_length: int,
    batch_size: int,
    seed: int,
    targets_per_sequence: int = 0,
    start_step: int = 0,
    every_position: bool = False,
    narrow: bool = True,
    repeat: RepeatConfig | None = None,
) -> tf.data.Dataset:
    """Returns an endless dataset of training batches, which the seed determines.

    Each epoch reads the sequences in a new order and draws new windows. A batch may
    contain examples from both sides of the end of an epoch.

    Args:
      sequences: Batched rows ``{"sequence": ragged int [S, None],
        "num_context": int [S], "profile": {name: int [S]}}``, one epoch; with
        ``"sequence_time": ragged int64 [S, None]`` if the model has ``time_gap``.
      history_length: T.
      batch_size: B.
      seed: Seeds order and windows.
      targets_per_sequence: See `cut_windows`.
      start_step: Number of batches to skip, because a resumed training has seen them.
      every_position: Cut segments with `cut_segments` instead of windows. The targets are
        then int32 [B, T], and ``"pairs"``, float32 [B], repeats the number of targets in
        the batch.
      narrow: With ``every_position``, reduce T to the length of the batch's longest
        history. Replicas need the same shapes at every step and therefore the full width.
      repeat: See `cut_windows`.

    Returns:
      ``{"history": int32 [B, T], "target": int32 [B], "profile": {name: int32 [B]}}``,
      with ``"history_time": int64 [B, T]`` if the sequences have times, and ``"own"``, own
      items [B, 1 + n], if ``repeat`` is given.
    """
    block_sequences = _BLOCK_SEQUENCES_WITH_OWN if repeat else _BLOCK_SEQUENCES

    def cut(block: tf.Tensor, rows: Mapping[str, Any]) -> dict[str, Any]:
        draw = tf.stack([tf.constant(seed, tf.int64), block])
        given = (rows[SEQUENCE], rows[NUM_CONTEXT], history_length)
        times = rows.get(SEQUENCE_TIME)
        if every_position:
            windows = cut_segments(*given, batch_size, draw, times)
        else:
            windows = cut_windows(*given, draw, targets_per_sequence, times, repeat)
        profile = {
            name: tf.cast(tf.gather(values, windows.rows), tf.int32)
            for name, values in rows[PROFILE].items()
        }
        batch = {HISTORY: windows.histories, TARGET: windows.targets, PROFILE: profile}
        if windows.own is not None:
            batch[OWN] = windows.own
        return batch if windows.times is None else batch | {HISTORY_TIME: windows.times}

    def chunks(
        epoch_number: tf.Tensor, position: tf.Tensor, rows: Mapping[str, Any]
    ) -> tf.data.Dataset:
        number = tf.shape(rows[NUM_CONTEXT], tf.int64)[0]
        # Negative, so that it never equals a block number, which seeds the windows of its block.
        draw = -1 - position - epoch_number * _MAX_BATCHES
        order = tf.argsort(
            tf.random.stateless_uniform([number], tf.stack([tf.constant(seed, tf.int64), draw]))
        )
        mixed = tf.nest.map_structure(lambda values: tf.gather(values, order), rows)
        return tf.data.Dataset.range(0, number, _CHUNK_SEQUENCES).map(
            lambda start: tf.nest.map_structure(
                lambda values: values[start : start + _CHUNK_SEQUENCES], mixed
            )
        )

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        return (
            sequences.enumerate()
            .flat_map(lambda position, rows: chunks(number, position, rows))
            .shuffle(_SHUFFLE_SEQUENCES // _CHUNK_SEQUENCES, seed=seed + number)
            .ragged_batch(block_sequences // _CHUNK_SEQUENCES)
            .map(lambda chunk: tf.nest.map_structure(lambda v: v.merge_dims(0, 1), chunk))
        )

    def counted(batch: dict[str, Any]) -> dict[str, Any]:
        pairs = tf.math.count_nonzero(batch[TARGET], dtype=tf.float32)
        if narrow:
            longest = tf.reduce_max(tf.math.count_nonzero(batch[HISTORY], axis=1))
            batch = {k: v if k == PROFILE else v[:, :longest] for k, v in batch.items()}
        return batch | {PAIRS: tf.fill([batch_size], pairs)}

    # All workers read the same stream, and each takes its share of every batch.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = (
        # Block numbers keep counting across epochs, so that every epoch has new draws.
        tf.data.Dataset.counter()
        .flat_map(epoch)
        .enumerate()
        .map(cut, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .rebatch(batch_size, drop_remainder=True)
        .skip(start_step)
    )
    if every_position:
        batches = batches.map(counted)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)
