"""Personal frequency against a plain Python oracle."""

import collections

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.baseline.personal_frequency import personal_frequency_ranks
from model.tfx_functions.evaluation import popularity_ranks

_ITEMS = 12


def _oracle(history):
    """Every item of the catalogue, the best first."""
    counts = collections.Counter(history)
    last = {item: place for place, item in enumerate(history)}
    own = sorted(counts, key=lambda item: (-counts[item], -last[item]))
    return own + [item for item in range(1, _ITEMS + 1) if item not in counts]


@settings(max_examples=50, deadline=None)
@given(histories=st.lists(st.lists(st.integers(1, _ITEMS), max_size=9), min_size=1, max_size=4))
def test_ranks_equal_the_oracle(histories):
    padded = np.zeros((len(histories), 10), np.int32)
    for row, history in zip(padded, histories, strict=True):
        row[: len(history)] = history
    targets = np.tile(np.arange(1, _ITEMS + 1, dtype=np.int32), (len(histories), 1))
    ranks = personal_frequency_ranks(tf.constant(targets), tf.constant(padded), False)
    for row, history in zip(ranks.numpy(), histories, strict=True):
        assert (np.argsort(row) + 1).tolist() == _oracle(history)
        assert sorted(row) == list(range(1, _ITEMS + 1))


def test_without_the_history_train_frequency_is_left():
    targets, history = tf.constant([[1, 3, 5]]), tf.constant([[2, 4, 4]])
    np.testing.assert_array_equal(
        personal_frequency_ranks(targets, history, True), popularity_ranks(targets, history, True)
    )
