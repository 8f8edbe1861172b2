"""Who is answered by a canary, and whether it does as well as the stable version.

Routing is by a hash, so that a person sees one version during a whole trial, on every
server. Judging compares the two versions over the requests that this server has routed.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Sequence

from contract.release import CanaryLimits

# Of one version, the newest of the window; they bound the memory.
_MAX_SAMPLES = 10_000
_HASH_BYTES = 8
_LATENCY_QUANTILE = 0.95


def is_routed_to_canary(key: str, model: str, version: int, share: float) -> bool:
    """Whether the caller of ``key`` is among the ``share`` that a canary answers.

    A larger share keeps the callers of a smaller one. Another canary has other callers.
    """
    digest = hashlib.sha256(f"{model}/{version}/{key}".encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") < share * 2 ** (8 * _HASH_BYTES)


@dataclasses.dataclass(frozen=True)
class Sample:
    """What became of one routed request.

    Attributes:
      at: When it ended, by the clock of whoever judges.
      seconds: How long it took; None if it failed before it was answered.
      is_error: Whether the version is to blame that it was not answered.
      empty: Share of its rows that got no item though the stable version had some.
    """

    at: float
    seconds: float | None
    is_error: bool = False
    empty: float = 0.0


class Window:
    """The samples of one version that are not older than the window."""

    def __init__(self) -> None:
        self._samples: collections.deque[Sample] = collections.deque(maxlen=_MAX_SAMPLES)

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, sample: Sample) -> None:
        """Adds the newest sample."""
        self._samples.append(sample)

    def forget_before(self, at: float) -> None:
        """Drops what is older."""
        while self._samples and self._samples[0].at < at:
            self._samples.popleft()

    def error_share(self) -> float:
        """Share of the requests that failed; 0 of none."""
        return self._mean([float(s.is_error) for s in self._samples])

    def empty_share(self) -> float:
        """Share of the rows that got nothing; 0 of none."""
        return self._mean([s.empty for s in self._samples])

    def latencies(self) -> list[float]:
        """How long the answered requests took, ascending, in seconds."""
        return sorted(s.seconds for s in self._samples if s.seconds is not None)

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else 0.0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Why a canary is to be taken back.

    Attributes:
      cause: ``errors``, ``empty_answers`` or ``latency``.
      reason: The figures, in words.
    """

    cause: str
    reason: str


def judge(canary: Window, stable: Window, limits: CanaryLimits, now: float) -> Verdict | None:
    """Compares the canary with the stable version.

    Args:
      canary: Its samples; those that have become too old are dropped.
      stable: Those of the stable version.
      limits: How much worse the canary may be.
      now: The time, by the clock of the samples.

    Returns:
      Why the canary is to be taken back; None if it is not, or not known yet.
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
            f"{errors:.1%} of {counted} failed, {usual:.1%} with the stable version; at most"
            f" {limits.max_error_increase:.1%} more are allowed",
        )
    empty, usual = canary.empty_share(), stable.empty_share()
    if empty - usual > limits.max_empty_increase:
        return Verdict(
            "empty_answers",
            f"{empty:.1%} of {counted} were answered without an item though the stable version had"
            f" some; at most {limits.max_empty_increase:.1%} are allowed",
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
