"""Splits against a plain, slow statement of the same rules."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen import splits
from components.example_gen.config import SplitConfig
from components.example_gen.events import sort_events
from components.example_gen.rows import ITEM, TIME, USER
from components.example_gen.splits import Rows, bound_length, chunk, cut_times, split_events
from contract import features

# For each person, the times of the events.
LOG = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12), min_size=1, max_size=8)
FRACTION = st.floats(0.05, 0.45)


def _events(log):
    users = [f"u{person}" for person, times in enumerate(log) for _ in times]
    times = [time for times in log for time in times]
    items = [f"i{n % 5}" for n in range(len(times))]
    return sort_events([pa.table({USER: users, ITEM: items, TIME: pa.array(times, pa.int64())})])


def _cuts(events, config):
    times, counts = np.unique(events.time, return_counts=True)
    return cut_times(times, counts, config.eval_fraction, config.test_fraction)


def _positions(rows):
    """(history positions, target positions) of each row."""
    first_target = rows.stop - rows.num_targets
    return [
        (list(range(begin, middle)), list(range(middle, end)))
        for begin, middle, end in zip(rows.start, first_target, rows.stop, strict=True)
    ]


def _check_rows(events, found, log):
    """What holds under every protocol."""
    assert set(found) == {features.TRAIN, features.EVAL, features.TEST}
    landed = []
    for history, targets in _positions(found[features.TRAIN]):
        assert not targets
        landed += history
    for split in (features.EVAL, features.TEST):
        for history, targets in _positions(found[split]):
            landed += targets
            assert history, "a target without a history cannot be ranked"
            assert targets
            assert max(events.time[history]) <= min(events.time[targets])
    for rows in found.values():
        for begin, end in zip(rows.start, rows.stop, strict=True):
            assert len(set(events.user[begin:end])) == 1
        assert (rows.history_length == rows.stop - rows.start - rows.num_targets).all()
    assert len(landed) == len(set(landed)), "an event landed twice"
    return set(landed)


@given(LOG, st.integers(1, 3))
def test_leave_last(log, num_targets):
    events = _events(log)
    config = SplitConfig(protocol="leave_last", num_targets=num_targets)
    found = split_events(events, config)
    landed = _check_rows(events, found, log)
    assert landed == set(range(len(events))), "every event lands"
    train = dict(zip(found["train"].start.tolist(), _positions(found["train"]), strict=True))
    for split, behind in (("eval", 1), ("test", 0)):
        rows = dict(zip(found[split].start.tolist(), _positions(found[split]), strict=True))
        for begin, end in zip(
            events.offsets[:-1].tolist(), events.offsets[1:].tolist(), strict=True
        ):
            if end - begin <= 2 * num_targets:
                assert begin not in rows
                assert train[begin][0] == list(range(begin, end))
                continue
            last = end - behind * num_targets
            assert rows[begin][1] == list(range(last - num_targets, last))
            assert rows[begin][0] == list(range(begin, last - num_targets))
            assert train[begin][0] == list(range(begin, end - 2 * num_targets))


@given(LOG, FRACTION, FRACTION, st.floats(0.05, 0.95), st.integers(0, 5))
def test_user(log, eval_fraction, test_fraction, target_fraction, seed):
    events = _events(log)
    config = SplitConfig(
        protocol="user",
        eval_fraction=eval_fraction,
        test_fraction=test_fraction,
        target_fraction=target_fraction,
        seed=seed,
    )
    found = split_events(events, config)
    _check_rows(events, found, log)
    people = {split: set(events.user[rows.start]) for split, rows in found.items()}
    assert sum(map(len, people.values())) == len(events.user_ids), "everybody is in one split"
    assert set.union(*people.values()) == set(range(len(events.user_ids)))
    for begin, end in zip(found["train"].start, found["train"].stop, strict=True):
        assert begin in events.offsets
        assert end in events.offsets
    for split in ("eval", "test"):
        for rows in _positions(found[split]):
            length = len(rows[0]) + len(rows[1])
            shown = min(max(1, int(length * (1 - target_fraction) + 1e-9)), length - 1)
            assert len(rows[0]) == shown


@pytest.mark.parametrize(
    ("length", "target_fraction", "shown"),
    [(10, 0.2, 8), (5, 0.2, 4), (6, 0.2, 4), (10, 0.7, 3), (2, 0.01, 1), (2, 0.99, 1), (3, 0.5, 1)],
)
def test_user_shown_share(length, target_fraction, shown):
    found = splits.by_user(np.array([0, length]), np.array([0.05]), 0.1, 0.1, target_fraction)
    assert found["test"].num_targets.tolist() == [length - shown]
    assert len(found["eval"]) == len(found["train"]) == 0


def test_user_draw_is_by_id_and_seed_and_has_the_shares_asked_for():
    ids = pa.array([str(n) for n in range(20_000)])
    draw = splits.draw_users(ids, seed=1230)
    assert (draw[::-1] == splits.draw_users(ids.take(pa.array(range(19_999, -1, -1))), 1230)).all()
    assert ((draw >= 0) & (draw < 1)).all()
    # Binomial: a share of 20,000 has a standard deviation of 0.0021 at 0.1.
    assert abs((draw < 0.1).mean() - 0.1) < 0.01
    other = splits.draw_users(ids, seed=1)
    assert abs(np.corrcoef(draw, other)[0, 1]) < 0.03


@given(LOG, FRACTION, FRACTION)
def test_time(log, eval_fraction, test_fraction):
    events = _events(log)
    config = SplitConfig(protocol="time", eval_fraction=eval_fraction, test_fraction=test_fraction)
    first, second = _cuts(events, config)
    found = split_events(events, config, (first, second))
    landed = _check_rows(events, found, log)
    assert first <= second
    for history, _ in _positions(found["train"]):
        assert (events.time[history] < first).all()
    for history, targets in _positions(found["eval"]):
        assert (events.time[history] < first).all()
        assert ((events.time[targets] >= first) & (events.time[targets] < second)).all()
    for history, targets in _positions(found["test"]):
        assert (events.time[history] < second).all()
        assert (events.time[targets] >= second).all()
    # Only the events of people without a history at the cut land nowhere.
    for event in set(range(len(events))) - landed:
        mine = events.time[events.user == events.user[event]]
        cut = first if events.time[event] < second else second
        assert events.time[event] >= cut
        assert not (mine < cut).any()


def test_cut_times_by_hand():
    times, counts = np.array([10, 20, 30, 40]), np.array([5, 2, 2, 1])
    assert cut_times(times, counts, 0.2, 0.1) == (30, 40)  # 3 of 10 from 30 on, 1 from 40 on
    assert cut_times(times, counts, 0.1, 0.1) == (40, 40)  # 2 of 10 would part nothing
    assert cut_times(times, counts, 0.4, 0.05) == (30, 41)  # nothing is as little as 0.5 of 10
    assert cut_times(np.array([7]), np.array([9]), 0.4, 0.4) == (8, 8)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_chunks_hold_every_history_and_target_once(lengths, overlap, more):
    max_length = overlap + more
    stop = np.cumsum(lengths)
    start = stop - lengths
    chunks = chunk(Rows.make(start, stop, stop), max_length, overlap)
    pairs = []
    counted = []
    for begin, end, context in zip(chunks.start, chunks.stop, chunks.num_context, strict=True):
        assert 0 < end - begin <= max_length
        counted += range(begin + context, end)
        for target in range(begin + max(1, context), end):
            pairs.append((target, tuple(range(max(begin, target - overlap), target))))
    expected = [
        (target, tuple(range(max(begin, target - overlap), target)))
        for begin, end in zip(start, stop, strict=True)
        for target in range(begin + 1, end)
    ]
    assert pairs == expected
    # Beyond its context, every event is in one chunk: item counts stay right.
    assert counted == list(range(stop[-1]))


def test_bound_length_keeps_the_newest_history_and_all_targets():
    offsets = np.array([0, 10])
    found = bound_length(splits.leave_last(offsets, 2), max_length=4, history_length=2)
    evaluated = found["eval"]
    assert (evaluated.start.tolist(), evaluated.stop.tolist()) == ([2], [8])
    assert evaluated.num_targets.tolist() == [2]
    assert evaluated.history_length.tolist() == [6], "the bucket is that of the full history"
    train = found["train"]  # 6 events in chunks of 4 that overlap by 2
    assert (train.start.tolist(), train.stop.tolist()) == ([0, 2], [4, 6])
    assert train.num_context.tolist() == [0, 2]


@pytest.mark.parametrize("protocol", ["leave_last", "user", "time", "newest_span"])
@given(LOG, st.integers(1, 4), st.integers(1, 4))
def test_train_and_rest_hold_every_history_and_target_once(protocol, log, overlap, more):
    events = _events(log)
    config = SplitConfig(protocol=protocol)
    cuts = (7, 7) if protocol == "newest_span" else _cuts(events, config)
    train = split_events(events, config, cuts)["train"]
    rest = splits.untrained(events, train, overlap)
    bounded = bound_length({"train": train, "rest": rest}, overlap + more, overlap)
    counted, pairs = [], []
    for rows in bounded.values():
        for begin, end, context in zip(rows.start, rows.stop, rows.num_context, strict=True):
            counted += range(begin + context, end)
            for target in range(begin + max(1, context), end):
                pairs.append((target, tuple(range(max(begin, target - overlap), target))))
    assert sorted(counted) == list(range(len(events)))
    assert sorted(pairs) == [
        (target, tuple(range(max(begin, target - overlap), target)))
        for begin, end in itertools.pairwise(events.offsets)
        for target in range(begin + 1, end)
    ]


def test_describe_counts_what_only_rest_holds():
    # Two people: a is in train but for the last two events, b has too few for a target.
    table = pa.table({USER: list("aaab"), ITEM: list("wxyz"), TIME: pa.array(range(4))})
    events = sort_events([table])
    found = split_events(events, SplitConfig(protocol="leave_last", num_targets=1))
    rest = splits.untrained(events, found["train"], history_length=1)
    assert (rest.start.tolist(), rest.stop.tolist()) == ([0], [3])
    assert rest.num_context.tolist() == [1]
    assert splits.describe(events, {"rest": rest})["rest"] == {"sequences": 1, "events": 2}


def test_describe_counts_repeated_targets_against_the_full_history():
    # One person: a b a c a; the last two to test and the two before to eval.
    table = pa.table({USER: ["u"] * 5, ITEM: list("abaca"), TIME: pa.array(range(5))})
    events = sort_events([table])
    found = split_events(events, SplitConfig(protocol="leave_last", num_targets=2))
    assert splits.describe(events, found) == {
        "train": {"sequences": 1, "events": 1},
        "eval": {"sequences": 1, "events": 3, "targets": 2, "repeated_targets": 1},
        "test": {"sequences": 1, "events": 5, "targets": 2, "repeated_targets": 1},
    }


def test_time_needs_cuts():
    with pytest.raises(ValueError, match="needs its cuts"):
        split_events(_events([[1, 2]]), SplitConfig(protocol="time"))
