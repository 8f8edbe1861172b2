"""The order and the bounds of the queue, against tags computed by hand."""

import hypothesis
import hypothesis.strategies as st
import pytest

from serving.fair_queue import FairQueue, QueueFullError


def _filled(*jobs, max_jobs=100, max_cost=10_000):
    """A queue with ``jobs``: (flow, costs of the pieces); a piece is called flow and number."""
    queue = FairQueue(max_jobs, max_cost)
    for flow, *costs in jobs:
        _put(queue, flow, *costs)
    return queue


def _put(queue, flow, *costs):
    return queue.put(flow, [(f"{flow}{number}", cost) for number, cost in enumerate(costs)])


def _drained(queue):
    return [queue.pop() for _ in range(100) if len(queue)]


def test_one_caller_is_served_in_the_order_of_its_requests():
    # Tags 5, 6 and 9, although the second is the smallest.
    queue = FairQueue(100, 100)
    for name, cost in (("first", 5), ("second", 1), ("third", 3)):
        queue.put("a", [(name, cost)])
    assert _drained(queue) == ["first", "second", "third"]


def test_a_small_request_overtakes_large_ones_of_others():
    # Tags 64, 64 and 1.
    assert _drained(_filled(("a", 64), ("b", 64), ("c", 1))) == ["c0", "a0", "b0"]


def test_a_caller_with_many_requests_shares_evenly_with_a_caller_of_few():
    queue = FairQueue(100, 100)
    for number in range(4):
        queue.put("many", [(f"many{number}", 10)])  # tags 10, 20, 30, 40
    for number in range(2):
        queue.put("few", [(f"few{number}", 10)])  # tags 10, 20
    assert _drained(queue) == ["many0", "few0", "many1", "few1", "many2", "many3"]


def test_others_run_between_the_pieces_of_a_large_request():
    # Tags 4, 8, 12 and 4, 8.
    assert _drained(_filled(("a", 4, 4, 4), ("b", 4, 4))) == ["a0", "b0", "a1", "b1", "a2"]


def test_a_large_request_is_not_overtaken_for_ever():
    queue = _filled(("large", 3), ("small0", 1))
    order = []
    for number in range(1, 6):
        # Two wait, so that R grows by half of what is done. Tags: 3; 1, 1.5, 2, 2.5, 3 (later).
        order.append(queue.pop())
        _put(queue, f"small{number}", 1)
    assert order == ["small00", "small10", "small20", "small30", "large0"]


def test_who_comes_late_is_not_behind_a_crowd_that_came_at_once():
    queue = _filled(*((f"crowd{number}", 64) for number in range(100)), max_jobs=1000)
    assert queue.pop() == "crowd00"  # R = 64 / 100
    _put(queue, "late", 1)  # tag 1.64; all others have 64
    _put(queue, "crowd0", 64)  # tag 128
    assert queue.pop() == "late0"
    assert queue.pop() == "crowd10"


def test_who_comes_back_has_no_claim_to_the_time_that_was_not_used():
    queue = _filled(("a", 10), ("c", 40))
    assert queue.pop() == "a0"  # R = 5
    _put(queue, "a", 10)  # tag 20, after its own 10
    _put(queue, "b", 16)  # tag 21, not 16
    assert _drained(queue) == ["a0", "b0", "c0"]


def test_an_idle_queue_forgets_who_had_how_much():
    queue = _filled(("a", 10))
    assert queue.pop() == "a0"
    _put(queue, "a", 5)
    _put(queue, "b", 6)
    assert _drained(queue) == ["a0", "b0"]


def test_what_is_wanted_is_taken_in_order_and_the_rest_stays():
    queue = _filled(("a", 1), ("b", 2), ("c", 3), ("d", 4))
    assert [*queue.take(lambda name: name in {"d0", "b0"})] == ["b0", "d0"]
    assert (len(queue), queue.cost) == (2, 4)
    assert _drained(queue) == ["a0", "c0"]


def test_a_full_queue_refuses_whoever_has_the_most_in_it():
    queue = _filled(("a", 1), ("a", 1), ("b", 1), max_jobs=3)
    assert not queue.may_enter("a", 1)
    with pytest.raises(QueueFullError):
        _put(queue, "a", 1)
    # With it, b would have as much as a.
    assert not queue.may_enter("b", 1)
    with pytest.raises(QueueFullError):
        _put(queue, "b", 1)
    assert (len(queue), queue.cost) == (3, 3)


def test_a_caller_with_little_puts_out_the_newest_request_of_the_one_with_most():
    queue = FairQueue(3, 100)
    queue.put("a", [("old", 5)])
    queue.put("a", [("new", 5)])
    queue.put("b", [("other", 5)])
    assert queue.may_enter("c", 9)
    _, put_out = queue.put("c", [("small", 1)])
    assert put_out == ["new"]
    assert _drained(queue) == ["small", "old", "other"]


def test_the_bound_on_cost_puts_out_as_many_as_needed():
    queue = FairQueue(100, 30)
    for name in ("first", "second", "third"):
        queue.put("a", [(name, 10)])
    _, put_out = queue.put("b", [("wanted", 15)])
    # After the first one is put out, 20 + 15 are still too much, and a has 20 against 15.
    assert put_out == ["third", "second"]
    assert queue.cost == 25


def test_nobody_is_put_out_if_that_would_not_make_room():
    queue = FairQueue(100, 30)
    for name in ("first", "second", "third"):
        queue.put("a", [(name, 10)])
    # After "third" is put out, a has 20, which is no more than b would have.
    with pytest.raises(QueueFullError):
        queue.put("b", [("large", 25)])
    assert _drained(queue) == ["first", "second", "third"]


def test_what_has_begun_is_not_put_out():
    queue = FairQueue(1, 100)
    queue.put("a", [("one", 10), ("two", 10)])
    assert queue.pop() == "one"
    with pytest.raises(QueueFullError):
        queue.put("b", [("small", 1)])
    assert _drained(queue) == ["two"]


def test_a_request_above_the_bound_enters_an_empty_queue():
    queue = FairQueue(1, 10)
    assert queue.may_enter("a", 64)
    queue.put("a", [("large", 64)])
    assert not queue.may_enter("b", 64)
    assert _drained(queue) == ["large"]


def test_what_is_discarded_is_not_counted_against_its_caller():
    queue = FairQueue(100, 1000)
    queue.put("b", [("other", 6)])
    job, _ = queue.put("a", [("gone", 50), ("gone too", 50)])
    queue.discard(job)
    queue.discard(job)
    queue.put("a", [("again", 5)])
    assert (len(queue), queue.cost) == (2, 11)
    assert _drained(queue) == ["again", "other"]


_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3), st.lists(st.integers(1, 9), min_size=1)),
        st.tuples(st.just("pop"), st.just(0), st.just([])),
        st.tuples(st.just("discard"), st.integers(0, 20), st.just([])),
    ),
    max_size=40,
)


@hypothesis.given(_ACTIONS)
def test_nothing_is_lost_or_counted_twice(actions):
    """Whatever happens, each piece comes out once, is put out, or is discarded."""
    queue = FairQueue(5, 60)
    left: dict[object, int] = {}
    jobs = []
    for number, (action, value, costs) in enumerate(actions):
        if action == "put":
            pieces = [((number, piece), cost) for piece, cost in enumerate(costs)]
            accepted = queue.may_enter(value, sum(costs))
            try:
                job, put_out = queue.put(value, pieces)
            except QueueFullError:
                continue
            assert accepted
            jobs.append((job, [name for name, _ in pieces]))
            left.update(pieces)
            for name in put_out:
                del left[name]
        elif action == "pop" and len(queue):
            del left[queue.pop()]
        elif action == "discard" and value < len(jobs):
            job, names = jobs[value]
            queue.discard(job)
            for name in names:
                left.pop(name, None)
        assert queue.cost == sum(left.values())
        assert len(queue) == len({number for number, _ in left})
    assert {queue.pop() for _ in range(len(left))} == set(left)
    assert len(queue) == queue.cost == 0
