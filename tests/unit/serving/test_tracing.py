"""Trace headers as the W3C's recommendation and its test suite have them."""

import re

import pytest

from serving.tracing import Trace

_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_VALID = f"00-{_TRACE}-{_PARENT}-01"


def _is_continued(*parents):
    return Trace.of_request(parents, ()).trace_id == _TRACE


@pytest.mark.parametrize(
    ("parent", "is_sampled"),
    [
        (_VALID, True),
        (f"00-{_TRACE}-{_PARENT}-00", False),
        (f"00-{_TRACE}-{_PARENT}-03", True),  # flags that are not known are no fault
        (f"00-{_TRACE}-{_PARENT}-fe", False),
        (f" {_VALID}\t", True),
        # Versions to come may have more after a dash.
        (f"01-{_TRACE}-{_PARENT}-01", True),
        (f"cc-{_TRACE}-{_PARENT}-01-what-the-future-will-be-like", True),
        (f"cc-{_TRACE}-{_PARENT}-01-", True),
    ],
)
def test_a_valid_parent_is_continued(parent, is_sampled):
    trace = Trace.of_request([parent], ["a=1"])
    assert trace.trace_id == _TRACE
    assert trace.is_sampled == is_sampled
    assert re.fullmatch("[0-9a-f]{16}", trace.span_id)
    assert trace.span_id != _PARENT
    flags = "01" if is_sampled else "00"
    assert trace.headers() == [
        ("traceparent", f"00-{_TRACE}-{trace.span_id}-{flags}"),
        ("tracestate", "a=1"),
    ]


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "x",
        _VALID.upper(),
        _VALID.replace("-", "_"),
        f"ff-{_TRACE}-{_PARENT}-01",
        f"FF-{_TRACE}-{_PARENT}-01",
        f"0-{_TRACE}-{_PARENT}-01",
        f"000-{_TRACE}-{_PARENT}-01",
        f".0-{_TRACE}-{_PARENT}-01",
        f"00-{'0' * 32}-{_PARENT}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"00-{_TRACE[:-1]}-{_PARENT}-01",
        f"00-{_TRACE}0-{_PARENT}-01",
        f"00-{_TRACE[:-1]}.-{_PARENT}-01",
        f"00-{_TRACE}-{_PARENT[:-1]}-01",
        f"00-{_TRACE}-{_PARENT}",
        f"00-{_TRACE}-{_PARENT}-1",
        f"00-{_TRACE}-{_PARENT}-.0",
        f"00-{_TRACE}-{_PARENT}-001",
        f"00-{_TRACE}-{_PARENT}-01-",
        f"00-{_TRACE}-{_PARENT}-01-more",
        f"cc-{_TRACE}-{_PARENT}-01.more",
        f"{_VALID}\n",
        f"{_VALID},{_VALID}",
        # Digits to Python, and to nobody else.
        f"00-{_TRACE[:-1]}\u0663-{_PARENT}-01",
    ],
)
def test_a_malformed_parent_is_as_good_as_none(parent):
    trace = Trace.of_request([parent], ["a=1"])
    assert trace.trace_id != _TRACE
    assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)
    assert int(trace.trace_id, 16)
    # A state without its parent means nothing.
    assert trace.headers() == [("traceparent", f"00-{trace.trace_id}-{trace.span_id}-00")]


def test_two_parents_are_none():
    assert _is_continued(_VALID)
    assert not _is_continued(_VALID, _VALID)
    assert not _is_continued()


def test_each_request_is_a_span_of_its_own():
    spans = {Trace.of_request([_VALID], ()).span_id for _ in range(20)}
    assert len(spans) == 20
    assert len({Trace.of_request([], ()).trace_id for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1, b=2\t,", ""], "a=1,b=2"),
        (["1a-_*/@vendor= x y"], "1a-_*/@vendor= x y"),
        (["a=" + "v" * 256], "a=" + "v" * 256),
        (["a=" + "v" * 257], ""),
        (["a=" + "v" * 250, "b=" + "v" * 250], f"a={'v' * 250},b={'v' * 250}"),
        (["a=" + "v" * 256, "b=" + "v" * 256], ""),
        (["k" * 256 + "=1"], "k" * 256 + "=1"),
        (["k" * 257 + "=1"], ""),
        (["A=1"], ""),
        (["1a=1"], ""),
        (["a@1=1"], ""),
        (["a="], ""),
        (["a"], ""),
        (["a=1=2"], ""),
        (["a=\x7f"], ""),
        (["a=é"], ""),
        (["a=1\nforged"], ""),
        (["a=1,a=2"], ""),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
    ],
)
def test_the_state_is_passed_on_if_it_is_valid(states, expected):
    assert Trace.of_request([_VALID], states).state == expected
