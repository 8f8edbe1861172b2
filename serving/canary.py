"""Decides which callers a canary answers, and whether it does as well as the stable version.

Requests are routed by a hash of the caller's key, so that a caller sees one version during a whole
trial, on every server. The two versions are compared over the requests that this server has routed.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Sequence

from contract.release import CanaryLimits

# Newest samples of the window that are kept for each version, to bound the memory.
_MAX_SAMPLES = 10_000
_HASH_BYTES = 8
_LATENCY_QUANTILE = 0.95


def is_routed_to_canary(key: str, model: str, version: int, share: float) -> bool:
    """Whether the caller with ``key`` belongs to the ``share`` that a canary answers.

    A larger share includes the callers of a smaller one. Each canary has different callers.
    """
    digest = hashlib.sha256(f"{model}/{version}/{key}".encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") < share * 2 ** (8 * _HASH_BYTES)


@dataclasses.dataclass(frozen=True)
class Sample:
    """The outcome of one routed request.

    Attributes:
      at: When the request ended, by the clock of the code that judges.
      seconds: How long it took; None if it failed before it was answered.
      is_error: Whether the version is to blame for the failure.
      empty: Share of its rows for which this version returned no item although the stable version
        returned some.
    """

    at: float
    seconds: float | None
    is_error: bool = False
    empty: float = 0.0


class Window:
    """The samples of one version within the window."""

    def __init__(self) -> None:
        self._samples: collections.deque[Sample] = collections.deque(maxlen=_MAX_SAMPLES)

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, sample: Sample) -> None:
        """Adds the newest sample."""
        self._samples.append(sample)

    def forget_before(self, at: float) -> None:
        """Drops samples older than ``at``."""
        while self._samples and self._samples[0].at < at:
            self._samples.popleft()

    def error_share(self) -> float:
        """Share of the requests that failed; 0 if there are no requests."""
        return self._mean([float(s.is_error) for s in self._samples])

    def empty_share(self) -> float:
        """Share of the rows without an item; 0 if there are no requests."""
        return self._mean([s.empty for s in self._samples])

    def latencies(self) -> list[float]:
        """Latencies of the answered requests in seconds, ascending."""
        return sorted(s.seconds for s in self._samples if s.seconds is not None)

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else 0.0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Why a canary is to be withdrawn.

    Attributes:
      cause: ``errors``, ``empty_answers`` or ``latency``.
      reason: The figures, as text.
    """

    cause: str
    reason: str


def judge(canary: Window, stable: Window, limits: CanaryLimits, now: float) -> Verdict | None:
    """Compares the canary with the stable version.

    Args:
      canary: Samples of the canary; those that have become too old are dropped.
      stable: Samples of the stable version, likewise.
      limits: How much worse the canary may be.
      now: The current time, by the clock of the samples.

    Returns:
      Why the canary is to be withdrawn; None if it is not, or cannot be judged yet.
    """
    for window in (canary, stable):
        window.forget_before(now - limits.window_seconds)
    if len(canary) < limits.min_requests:
        return None
    counted = f"{len(canary)} requests in {limits.window_seconds:g} s"
    errors, usual = canary.error_share(), stable.error_share()
    if errors - usual > limits.max_error_increase:
        return Verdict(
            "errors",
            f"{errors:.1%} of {counted} failed, {usual:.1%} with the stable version; an increase"
            f" of at most {limits.max_error_increase:.1%} is allowed",
        )
    empty, usual = canary.empty_share(), stable.empty_share()
    if empty - usual > limits.max_empty_increase:
        return Verdict(
            "empty_answers",
            f"{empty:.1%} of {counted} were answered without an item although the stable version"
            f" had some; at most {limits.max_empty_increase:.1%} are allowed",
        )
    slow, usually = canary.latencies(), stable.latencies()
    if min(len(slow), len(usually)) < limits.min_requests:
        return None
    late, usual = _quantile(slow), _quantile(usually)
    if late > usual * limits.max_latency_ratio:
        return Verdict(
            "latency",
            f"the 95th percentile of {counted} is {1000 * late:.1f} ms, {1000 * usual:.1f} ms with"
            f" the stable version; at most {limits.max_latency_ratio:g} times as much is allowed",
        )
    return None


def _quantile(ascending: Sequence[float]) -> float:
    return ascending[math.ceil(_LATENCY_QUANTILE * len(ascending)) - 1]
