"""Shared parts of the evaluate signatures against plain Python."""

import numpy as np
import tensorflow as tf

from contract import evaluation_outputs as outputs
from model.tfx_functions import evaluation


def test_popularity_ranks_skip_the_distinct_history():
    targets = tf.constant([[5, 2, 1, 0, -1]])
    history = tf.constant([[1, 3, 3, 4, 9, 0, 0]])
    included = evaluation.popularity_ranks(targets, history, False)
    np.testing.assert_array_equal(included[0, :3], [5, 2, 1])
    excluded = evaluation.popularity_ranks(targets, history, True)
    # 1, 3 and 4 are more frequent than 5; only 1 is more frequent than 2.
    np.testing.assert_array_equal(excluded[0, :3], [2, 1, 1])


def test_popularity_buckets_split_train_events():
    # 50, 30, 10, 5, 4, 1 of 100 events and one item without any.
    buckets = outputs.popularity_buckets(np.array([50, 30, 10, 5, 4, 1, 0]))
    names = {value: name for name, value in outputs.POPULARITY_BUCKETS.items()}
    assert [names[b] for b in buckets] == [
        "head",
        "middle",
        "middle",
        "tail",
        "tail",
        "tail",
        "unseen",
    ]


def test_ranks_with_and_without_history_hide_what_does_not_count():
    rows = evaluation.EvaluationRows(
        transformed={},
        history=tf.constant([[3, 8, 0]]),
        targets=tf.constant([[7, 0, 3, -1]]),
    )
    result = evaluation.ranks_with_and_without_history(
        rows, lambda targets, history, exclude: tf.ones_like(targets), "without", "with"
    )
    np.testing.assert_array_equal(result["without"], [[1, outputs.UNKNOWN_RANK, 0, 0]])
    np.testing.assert_array_equal(result["with"], [[1, outputs.UNKNOWN_RANK, 1, 0]])
