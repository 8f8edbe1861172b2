"""Windows against a plain Python oracle."""

import collections

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.training.input_pipeline import cut_segments, cut_windows, training_batches

sequences_strategy = st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=6)


def _oracle(sequences, num_context, length):
    windows = []
    for row, (items, context) in enumerate(zip(sequences, num_context, strict=True)):
        for position in range(max(1, context), len(items)):
            history = items[max(0, position - length) : position]
            windows.append(((*history, *[0] * (length - len(history))), items[position], row))
    return windows


def _cut(sequences, num_context, length, seed=0, per_sequence=0):
    windows = cut_windows(
        tf.ragged.constant(sequences, dtype=tf.int64, ragged_rank=1),
        tf.constant(num_context, tf.int64),
        length,
        tf.constant([1, seed], tf.int64),
        per_sequence,
    )
    return [
        (tuple(h), int(t), int(r))
        for h, t, r in zip(*(part.numpy() for part in windows[:3]), strict=True)
    ]


@settings(max_examples=30, deadline=None)
@given(sequences=sequences_strategy, length=st.integers(1, 12), data=st.data())
def test_every_position_is_a_target_once(sequences, length, data):
    context = [data.draw(st.integers(0, len(s))) for s in sequences]
    windows = _cut(sequences, context, length)
    assert sorted(windows) == sorted(_oracle(sequences, context, length))


def _segments(sequences, num_context, length, seed=0, batch_size=2):
    return cut_segments(
        tf.ragged.constant(sequences, dtype=tf.int64, ragged_rank=1),
        tf.constant(num_context, tf.int64),
        length,
        batch_size,
        tf.constant([1, seed], tf.int64),
    )


@settings(max_examples=30, deadline=None)
@given(sequences=sequences_strategy, length=st.integers(1, 12), data=st.data())
def test_every_position_of_a_sequence_is_in_one_segment(sequences, length, data):
    context = [data.draw(st.integers(0, len(s))) for s in sequences]
    # Items are numbered through, so that each is known by its place.
    numbers = iter(range(1, 1000))
    sequences = [[next(numbers) for _ in row] for row in sequences]
    histories, targets, rows, *_ = _segments(
        sequences, context, length, seed=data.draw(st.integers(0, 9))
    )
    learned = []
    for history, target, row in zip(histories.numpy(), targets.numpy(), rows.numpy(), strict=True):
        steps = np.count_nonzero(history)
        assert steps > 0
        assert not history[steps:].any()
        assert not target[steps:].any()
        begin = sequences[row].index(history[0])
        assert history[:steps].tolist() == sequences[row][begin : begin + steps]
        for place in np.flatnonzero(target):
            assert target[place] == sequences[row][begin + place + 1]
        learned += [(row, t) for t in target[target > 0]]
    expected = [
        (row, item)
        for row, (items, known) in enumerate(zip(sequences, context, strict=True))
        for item in items[max(1, known) :]
    ]
    assert sorted(learned) == expected


def test_a_short_sequence_is_one_segment_and_a_long_one_is_cut_anew():
    sequences = [[1, 2, 3], list(range(10, 30))]
    cuts = set()
    for seed in range(20):
        histories, _, rows, *_ = _segments(sequences, [0, 0], 6, seed)
        by_row = [histories.numpy()[rows.numpy() == row] for row in (0, 1)]
        np.testing.assert_array_equal(by_row[0], [[1, 2, 0, 0, 0, 0]])
        cuts.add(tuple(sorted(by_row[1][:, 0])))
    # The second has 19 targets: 6 apart, from 6 different places.
    assert len(cuts) == 6


def test_segments_of_a_length_stand_together():
    rng = np.random.default_rng(0)
    sequences = [[1] * rng.integers(2, 20) for _ in range(100)]
    lengths = np.count_nonzero(_segments(sequences, [0] * 100, 20, batch_size=10).histories, axis=1)
    groups = lengths.reshape(10, 10)
    assert (np.ptp(groups, axis=1) <= 4).all()  # of 18 lengths
    assert (np.diff(groups[:, 0]) < 0).any()  # and groups are in no order


def test_a_batch_of_segments_is_as_wide_as_its_longest():
    rows = {
        "sequence": tf.ragged.constant([[1, 2, 3], [4, 5, 6, 7]], dtype=tf.int64),
        "num_context": np.zeros(2, np.int64),
        "profile": {"age": np.array([8, 9])},
    }
    batches = training_batches(
        tf.data.Dataset.from_tensors(rows), 10, 2, seed=1, every_position=True
    )
    batch = next(iter(batches))
    order = np.argsort(batch["history"][:, 0])
    np.testing.assert_array_equal(batch["history"].numpy()[order], [[1, 2, 0], [4, 5, 6]])
    np.testing.assert_array_equal(batch["target"].numpy()[order], [[2, 3, 0], [5, 6, 7]])
    np.testing.assert_array_equal(batch["profile"]["age"].numpy()[order], [8, 9])
    np.testing.assert_array_equal(batch["pairs"], [5, 5])


def test_times_go_with_their_items():
    sequences = [[5, 3, 9, 2], [7, 8]]
    times = tf.ragged.constant([[10 * i for i in row] for row in sequences], tf.int64)
    windows = cut_windows(
        tf.ragged.constant(sequences, dtype=tf.int64),
        tf.constant([0, 0], tf.int64),
        3,
        tf.constant([1, 0], tf.int64),
        times=times,
    )
    assert len(windows.targets) == 4
    np.testing.assert_array_equal(windows.times, 10 * windows.histories.numpy())


def test_chunks_give_the_windows_of_the_whole_sequence():
    whole, length = list(range(1, 11)), 3
    # The second chunk repeats `length` items as context.
    chunks, context = [whole[:6], whole[3:]], [0, 3]
    pairs = sorted((h, t) for h, t, _ in _cut(chunks, context, length))
    assert pairs == sorted((h, t) for h, t, _ in _cut([whole], [0], length))


def test_the_order_depends_on_the_seed_only():
    sequences = [list(range(1, 40))]
    first = _cut(sequences, [0], 3, seed=1)
    assert first == _cut(sequences, [0], 3, seed=1)
    other = _cut(sequences, [0], 3, seed=2)
    assert first != other
    assert sorted(first) == sorted(other)


def test_a_set_number_of_targets_per_sequence():
    sequences, context = [[1, 2, 3, 4, 5], [6], [7, 8]], [3, 0, 0]
    counts = collections.Counter()
    for seed in range(200):
        windows = _cut(sequences, context, 4, seed, per_sequence=2)
        assert collections.Counter(row for _, _, row in windows) == {0: 2, 2: 2}
        counts.update((history, target) for history, target, _ in windows)
    allowed = {(h, t) for h, t, _ in _oracle(sequences, context, 4)}
    assert set(counts) == allowed
    # Targets 4 and 5 of the first sequence are drawn evenly: 400 draws, five deviations.
    assert abs(counts[((1, 2, 3, 0), 4)] - 200) < 50


def _dataset(num=50):
    rng = np.random.default_rng(0)
    sequences = [list(rng.integers(1, 99, rng.integers(1, 9))) for _ in range(num)]
    data = {
        "sequence": tf.ragged.constant(sequences, dtype=tf.int64),
        "num_context": np.zeros(num, np.int64),
        "profile": {"age": np.array([s[0] for s in sequences])},
    }
    return tf.data.Dataset.from_tensor_slices(data).batch(7), sequences


def _take(dataset, number):
    return [tf.nest.map_structure(lambda t: t.numpy(), b) for b in dataset.take(number)]


def test_batches_are_full_and_carry_the_profile_of_their_person():
    dataset, sequences = _dataset()
    expected = {(h, t): sequences[r][0] for h, t, r in _oracle(sequences, [0] * len(sequences), 4)}
    for batch in _take(training_batches(dataset, 4, 16, seed=1), 30):
        assert batch["history"].shape == (16, 4)
        for history, target, age in zip(
            batch["history"], batch["target"], batch["profile"]["age"], strict=True
        ):
            first = [s[0] for s in sequences if (tuple(history), target) in _pairs(s)]
            assert age in first
            assert (tuple(history), target) in expected


def _pairs(sequence):
    return {(h, t) for h, t, _ in _oracle([sequence], [0], 4)}


def test_an_epoch_holds_every_window_and_the_next_is_in_new_order():
    dataset, sequences = _dataset()
    windows = _oracle(sequences, [0] * len(sequences), 4)
    targets = np.concatenate(
        [b["target"] for b in _take(training_batches(dataset, 4, 1, seed=1), 2 * len(windows))]
    )
    first, second = np.split(targets, 2)
    assert sorted(first) == sorted(second) == sorted(t for _, t, _ in windows)
    assert (first != second).any()


def test_a_resumed_stream_goes_on_where_it_stopped():
    dataset, _ = _dataset()
    whole = _take(training_batches(dataset, 4, 16, seed=1), 30)
    resumed = _take(training_batches(dataset, 4, 16, seed=1, start_step=20), 10)
    for expected, batch in zip(whole[20:], resumed, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)
