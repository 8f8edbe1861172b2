import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.example_gen import events as event_ops
from components.example_gen.arrow_bytes import pack, unpack
from components.example_gen.events import Events
from components.example_gen.rows import ITEM, TIME, USER

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "u", "10", "9", "日本"]),
        st.sampled_from(["a", "b", "c,d", "e\n"]),
        st.integers(0, 4),
    ),
    max_size=40,
)


def _table(rows):
    users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            USER: pa.array(users, pa.string()),
            ITEM: pa.array(items, pa.string()),
            TIME: pa.array(times, pa.int64()),
        }
    )


def _rows(events):
    return [
        (events.user_ids[user].as_py(), events.item_ids[item].as_py(), time)
        for user, item, time in zip(
            events.user.tolist(), events.item.tolist(), events.time.tolist(), strict=True
        )
    ]


def _check(events):
    """What every ``Events`` must hold."""
    for ids, codes in ((events.user_ids, events.user), (events.item_ids, events.item)):
        texts = ids.to_pylist()
        assert texts == sorted(set(texts), key=str.encode)
        assert set(codes.tolist()) == set(range(len(texts)))


@given(ROWS, st.integers(0, 40))
def test_sort_is_by_user_then_time_then_file_order(rows, cut):
    # Two parts, as from two files, one of them dictionary-encoded as after a shuffle.
    first, second = _table(rows[:cut]), _table(rows[cut:])
    encoded = first.set_column(0, USER, first[USER].dictionary_encode())
    second = second.set_column(0, USER, second[USER].dictionary_encode())
    events = event_ops.sort_events([encoded, second])
    assert _rows(events) == sorted(rows, key=lambda row: (row[0].encode(), row[2]))
    _check(events)


@given(ROWS)
def test_survives_packing(rows):
    events = event_ops.sort_events([_table(rows)])
    back = Events.from_table(unpack(pack(events.to_table())))
    assert _rows(back) == _rows(events)
    _check(back)


@given(ROWS)
def test_repeated_events_are_those_that_a_set_would_drop(rows):
    events = event_ops.sort_events([_table(rows)])
    kept = events.take(~event_ops.is_repeated(events))
    assert _rows(kept) == list(dict.fromkeys(_rows(events)))


def test_a_repetition_need_not_be_adjacent():
    events = event_ops.sort_events([_table([("u", "a", 1), ("u", "b", 1), ("u", "a", 1)])])
    assert event_ops.is_repeated(events).tolist() == [False, False, True]


@given(ROWS, st.integers(1, 6), st.sets(st.sampled_from(["a", "b", "c,d", "zzz"])))
def test_filters(rows, least, kept):
    events = event_ops.sort_events([_table(rows)])
    common = event_ops.keep_items(events, pa.array(sorted(kept), pa.string()))
    _check(common)
    assert _rows(common) == [row for row in _rows(events) if row[1] in kept]
    active = event_ops.keep_active_users(common, least)
    _check(active)
    users = [row[0] for row in _rows(common)]
    assert _rows(active) == [row for row in _rows(common) if users.count(row[0]) >= least]


@given(ROWS)
def test_counts_offsets_and_first_occurrence(rows):
    events = event_ops.sort_events([_table(rows)])
    ordered = _rows(events)
    items = [row[1] for row in ordered]
    assert event_ops.item_counts(events).tolist() == [
        items.count(item) for item in events.item_ids.to_pylist()
    ]
    for person, (begin, end) in enumerate(
        zip(events.offsets[:-1], events.offsets[1:], strict=True)
    ):
        assert (np.flatnonzero(events.user == person) == np.arange(begin, end)).all()
    pairs = [row[:2] for row in ordered]
    assert event_ops.first_occurrence(events).tolist() == [pairs.index(pair) for pair in pairs]


@given(ROWS, st.integers(1, 4))
def test_of_a_person_with_too_many_events_the_newest_stay(rows, most):
    events = event_ops.sort_events([_table(rows)])
    kept = event_ops.keep_newest(events, most)
    _check(kept)
    ordered = _rows(events)
    people = list(dict.fromkeys(row[0] for row in ordered))
    assert _rows(kept) == [
        row for person in people for row in [r for r in ordered if r[0] == person][-most:]
    ]


def test_nobody():
    events = event_ops.no_events()
    assert len(events) == 0
    assert events.offsets.tolist() == [0]
    assert len(event_ops.keep_active_users(events, 1)) == 0
    assert event_ops.first_occurrence(events).tolist() == []
