"""Overlap and times of two versions, by hand."""

import grpc
import pytest

from serving.errors import ServingError
from serving.replay import compare, least_alike, replay
from serving.request_sample import RequestSample


def _sample(name):
    return RequestSample("2026-11-26T15:16:28Z", "mind", 7, "", {"history": [name]})


class _World:
    """Two versions that answer by the first item of the history, and take so many seconds."""

    def __init__(self, served, candidate, seconds=lambda version, number: 0.0):
        self.now = 0.0
        self.order = []
        self._seconds = seconds
        self.served = _Version(self, "served", served)
        self.candidate = _Version(self, "candidate", candidate)

    def replay(self):
        samples = [_sample(name) for name in self.served.answers]
        return replay(samples, self.served, self.candidate, clock=lambda: self.now)

    def take(self, version, number):
        self.order.append((version, number))
        self.now += self._seconds(version, number)


class _Version:
    def __init__(self, world, name, answers):
        self._world, self._name, self.answers = world, name, answers
        self._number = 0

    def answer(self, sample):
        self._world.take(self._name, self._number)
        self._number += 1
        answer = self.answers[sample.history[0]]
        if answer is None:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "k is too large")
        return list(answer)


def test_overlap_is_the_share_of_the_longer_answer():
    world = _World(
        {"same": "abcd", "half": "abcd", "short": "abcd", "other": "ab", "none": ""},
        {"same": "dcba", "half": "axcy", "short": "a", "other": "xy", "none": ""},
    )
    pairs = world.replay()
    assert [pair.overlap for pair in pairs] == [1.0, 0.5, 0.25, 0.0, None]
    found = compare(pairs)
    assert (found.requests, found.compared) == (5, 4)
    assert found.overlap == pytest.approx(1.75 / 4)
    # Of 0, 0.25, 0.5 and 1, linearly between them: places 0.3, 1.5 and 2.7.
    assert found.overlap_quantiles == pytest.approx({"p10": 0.075, "p50": 0.375, "p90": 0.85})
    assert found.both_empty == pytest.approx(0.2)
    shown = [pair.sample.history[0] for pair in least_alike(pairs, 3)]
    assert shown == ["other", "short", "half"]


def test_what_a_version_refuses_or_answers_with_nothing():
    world = _World(
        {"a": "x", "b": "x", "c": "", "d": "x"}, {"a": "x", "b": None, "c": None, "d": ""}
    )
    found = compare(world.replay())
    assert (found.served.empty, found.served.failed) == (0.25, 0.0)
    assert (found.candidate.empty, found.candidate.failed) == (0.75, 0.5)
    assert found.candidate.first_error == "k is too large"
    assert found.served.first_error == ""
    assert found.both_empty == 0.25
    assert found.overlap == pytest.approx(1 / 3)


def test_nothing_to_compare_is_no_overlap():
    found = compare(_World({"a": ""}, {"a": ""}).replay())
    assert (found.compared, found.overlap, found.both_empty) == (0, 0.0, 1.0)


def test_the_first_version_alternates_and_the_warm_up_is_not_measured():
    def seconds(version, number):
        return 100.0 if not number else {"served": 0.001, "candidate": 0.002}[version] * number

    answers = dict.fromkeys("abc", "x")
    world = _World(answers, answers, seconds)
    pairs = world.replay()
    assert [version for version, _ in world.order] == [
        *("served", "candidate"),  # warm-up
        *("served", "candidate"),
        *("candidate", "served"),
        *("served", "candidate"),
    ]
    found = compare(pairs)
    # 1, 2 and 3 ms, and 2, 4 and 6 ms; the 99th percentile lies at place 1.98.
    assert found.served.p50_ms == pytest.approx(2.0)
    assert found.served.p99_ms == pytest.approx(2.98)
    assert found.candidate.p50_ms == pytest.approx(4.0)
    assert found.candidate.p99_ms == pytest.approx(5.96)
