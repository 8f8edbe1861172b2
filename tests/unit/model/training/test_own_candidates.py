"""Training sees of people's own items what serving finds in their histories."""

import itertools

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import RepeatConfig
from model.training.input_pipeline import cut_windows
from model.training.own_candidates import (
    Prefixes,
    log_expected_count,
    own_candidates,
    shortened,
)
from tests.unit.model.network.test_own_items import facts_of

_DRAWN = 4


@settings(max_examples=25, deadline=None)
@given(
    sequences=st.lists(st.lists(st.integers(1, 6), max_size=20), min_size=1, max_size=5),
    limit=st.integers(2, 30),
)
def test_what_is_found_of_an_item_is_what_the_whole_history_says(sequences, limit):
    items = list(itertools.chain(*sequences))
    starts = np.cumsum([0, *map(len, sequences)])
    asked = [
        (starts[row], starts[row] + end)
        for row, sequence in enumerate(sequences)
        for end in range(1, len(sequence))
    ]
    if not asked:
        return
    start, end = (tf.constant(column, tf.int32) for column in zip(*asked, strict=True))
    own = own_candidates(
        tf.constant(items, tf.int32), Prefixes(start, end, end), limit, _DRAWN, tf.constant([1, 2])
    )
    for row, (begin, stop) in enumerate(asked):
        known = facts_of(items[begin:stop], limit)
        target = items[stop]
        candidates = own.items[row].numpy()
        assert candidates[0] == (target if target in known else 0)
        assert target not in candidates[1:]
        for column, item in enumerate(candidates):
            if item:
                assert tuple(int(part[row, column]) for part in own[1:]) == known[item]
        if min(stop - begin, limit) <= _DRAWN:  # all are drawn, each once
            drawn = sorted(item for item in candidates[1:] if item)
            assert drawn == sorted(set(known) - {target})


def test_draws_come_as_often_as_expected():
    """Ten behaviours of six items: each item but the target in 4 draws of 10 places."""
    items = tf.constant([1, 2, 3, 1, 2, 4, 5, 1, 6, 6, 9])
    number = 4_000
    zeros, ends = tf.zeros([number], tf.int32), tf.fill([number], 10)
    own = own_candidates(items, Prefixes(zeros, ends, ends), 100, _DRAWN, tf.constant([3, 4]))
    counts = np.bincount(own.items.numpy()[:, 1:].ravel(), minlength=10)[1:7]
    # The standard deviation of a count is 38.
    np.testing.assert_allclose(counts / number, 0.4, atol=0.05)
    np.testing.assert_allclose(log_expected_count(own), np.log(0.4), rtol=1e-5)


def test_histories_end_earlier_by_less_than_the_horizon():
    starts, ends = tf.fill([2_000], 5), tf.fill([2_000], 15)
    for horizon, left in ((1, {15}), (4, {12, 13, 14, 15}), (100, set(range(6, 16)))):
        short = shortened(Prefixes(starts, ends, ends), horizon, tf.constant([1, 2]))
        assert set(short.ends.numpy().tolist()) == left
        np.testing.assert_array_equal(short.targets, ends)


def test_windows_carry_the_candidates_of_their_own_target():
    """One behaviour is too short to be shortened, so that the answer is certain."""
    windows = cut_windows(
        tf.ragged.constant([[3, 3], [4, 5]], dtype=tf.int64),
        tf.zeros([2], tf.int64),
        history_length=5,
        seed=tf.constant([1, 2], tf.int64),
        repeat=RepeatConfig(candidates=2),
    )
    rows = np.argsort(windows.rows)
    assert windows.own.items.numpy()[rows].tolist() == [[3, 0, 0], [0, 4, 0]]
