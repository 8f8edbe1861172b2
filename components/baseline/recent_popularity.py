"""Popularity in the last days: the strongest of the simple baselines if the split is by time."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from contract import features

_SECONDS_PER_DAY = 86_400
_BATCH = 4096


def read_events(
    files: Sequence[str], item_ids: Sequence[bytes]
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Reads the events of raw train sequences, in batches.

    Args:
      files: TFRecord files (gzip) of raw examples.
      item_ids: The ids of item index 1, 2, …

    Yields:
      The item indices and the times of events, in seconds since 1970. The context of a chunk is
      left out, because the chunk before it contains the same events.
    """
    index_of = pd.Index(item_ids)
    spec = {
        features.ITEM_ID: tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64),
        features.TIMESTAMP: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        features.NUM_CONTEXT: tf.io.FixedLenFeature([], tf.int64, default_value=0),
    }
    for batch in tf.data.TFRecordDataset(list(files), "GZIP").batch(_BATCH):
        rows = tf.io.parse_example(batch, spec)
        position = tf.ragged.range(rows[features.ITEM_ID].row_lengths())
        new = (position >= rows[features.NUM_CONTEXT][:, tf.newaxis]).values.numpy()
        items = index_of.get_indexer(rows[features.ITEM_ID].values.numpy()[new]) + 1
        yield items, rows[features.TIMESTAMP].values.numpy()[new]


def recent_ranks(
    events: Iterable[tuple[np.ndarray, np.ndarray]], num_items: int, days: Sequence[int]
) -> dict[int, np.ndarray]:
    """Ranks all items by their number of events in the last days of train.

    Args:
      events: Batches of item indices (1..N) and times in seconds.
      num_items: Number of items, N.
      days: The number of days for each ranking.

    Returns:
      The ranks of all items by number of days, int32 [N + 1] each; 0 for padding. Items with
      equal numbers of events rank by index, which follows their frequency in all of train.
    """
    batches = list(events)
    items = np.concatenate([batch for batch, _ in batches])
    times = np.concatenate([batch for _, batch in batches])
    ranks = {}
    for number in days:
        recent = items[times > times.max() - number * _SECONDS_PER_DAY]
        counts = np.bincount(recent, minlength=num_items + 1)[1:]
        order = np.argsort(-counts, kind="stable")
        rank = np.zeros(num_items + 1, np.int32)
        rank[1 + order] = np.arange(1, num_items + 1)
        ranks[number] = rank
    return ranks
