"""Whom a canary answers, and when it is taken back; windows that are worked out by hand."""

import pytest

from contract.release import CanaryLimits
from serving.canary import Sample, Window, is_routed_to_canary, judge

LIMITS = CanaryLimits(window_seconds=60.0, min_requests=20)


def window(count, *, errors=0, empty=0, seconds=0.01, slow=0, at=100.0):
    """``count`` requests: some failed, some got nothing, some took ten times as long."""
    found = Window()
    for number in range(count):
        found.add(
            Sample(
                at,
                None if number < errors else seconds * (10 if number < slow else 1),
                is_error=number < errors,
                empty=float(errors <= number < errors + empty),
            )
        )
    return found


def test_a_caller_always_has_the_same_version():
    callers = [f"person {n}" for n in range(2000)]
    few = {c for c in callers if is_routed_to_canary(c, "mind", 9, 0.05)}
    assert few == {c for c in callers if is_routed_to_canary(c, "mind", 9, 0.05)}
    # 2,000 draws of 5 %: 100, and four standard deviations are 39.
    assert 61 <= len(few) <= 139
    # A larger share keeps them; the next canary has others.
    many = {c for c in callers if is_routed_to_canary(c, "mind", 9, 0.5)}
    assert few < many
    assert 910 <= len(many) <= 1090
    other = {c for c in callers if is_routed_to_canary(c, "mind", 10, 0.05)}
    assert len(few & other) < len(few) / 2


def test_the_hash_is_the_same_on_every_server():
    """The SHA-256 of "mind/9/ann" begins with 41f7, which is 16,887 of 65,536."""
    assert is_routed_to_canary("ann", "mind", 9, 16_888 / 65_536)
    assert not is_routed_to_canary("ann", "mind", 9, 16_887 / 65_536)


@pytest.mark.parametrize(
    ("canary", "stable", "cause", "words"),
    [
        # Too few to know.
        (window(19, errors=19), window(100), None, ""),
        # 1 of 50 is 2 %, which is allowed; 2 are not.
        (window(50, errors=1), window(100), None, ""),
        (
            window(50, errors=2),
            window(100),
            "errors",
            "4.0% of 50 requests in 60 s failed, 0.0% with the stable version; an increase",
        ),
        # As many as with the stable version are not the canary's.
        (window(100, errors=10), window(100, errors=9), None, ""),
        (window(100, errors=12), window(100, errors=9), "errors", "12.0% of 100"),
        # All errors, and a stable version that nobody asked.
        (window(20, errors=20), window(0), "errors", "100.0% of 20 requests"),
        (window(100, empty=2), window(100), None, ""),
        (window(100, empty=3), window(100), "empty_answers", "3.0% of 100 requests"),
        # The 95th of 100 is the first of six slow ones.
        (window(100, slow=5), window(100), None, ""),
        (
            window(100, slow=6),
            window(100),
            "latency",
            "the 95th percentile of 100 requests in 60 s is 100.0 ms, 10.0 ms with the stable",
        ),
        (window(50, seconds=0.02), window(50, seconds=0.01), None, ""),
        (window(50, seconds=0.021), window(50, seconds=0.01), "latency", "21.0 ms, 10.0 ms"),
        # Of the stable version too few to compare with.
        (window(50, seconds=0.1), window(19), None, ""),
    ],
)
def test_a_canary_is_compared_with_the_stable_version(canary, stable, cause, words):
    verdict = judge(canary, stable, LIMITS, now=100.0)
    assert (verdict.cause if verdict else None) == cause
    if verdict:
        assert words in verdict.reason


def test_what_is_older_than_the_window_is_forgotten():
    canary = window(20, errors=20, at=100.0)
    assert judge(canary, window(20), LIMITS, now=160.0).cause == "errors"
    assert judge(canary, window(20), LIMITS, now=160.1) is None
    assert len(canary) == 0
