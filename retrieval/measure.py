"""Recall and latency of an index."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

# Scores this close to the k-th best count as found: float32 sums differ in
# their last bits between kernels, and equal vectors tie.
_TOLERANCE = 1e-5
# Of the normal distribution: the quantile of 95 %.
_NORMAL_95 = 1.645
# Multiplications that the exact search for all people may take, and the fewest people for whom it
# is made all the same.
_EXACT_BUDGET = 5 * 10**11
_MIN_PEOPLE = 100


@dataclasses.dataclass(frozen=True)
class Recall:
    """Share of the exact top k that the index found.

    Attributes:
      mean: Over people.
      lower: Lower end of the one-sided 95 % confidence interval of the mean.
      people: Number of people.
    """

    mean: float
    lower: float
    people: int


def recall(found_scores: np.ndarray, exact_scores: np.ndarray) -> Recall:
    """Summarises ``recall_shares``, whose arguments and error these are."""
    shares = recall_shares(found_scores, exact_scores)
    mean = float(shares.mean())
    return Recall(mean, mean - _error(shares), len(shares))


def recall_shares(found_scores: np.ndarray, exact_scores: np.ndarray) -> np.ndarray:
    """Returns for each person the share of the exact top k that was found, float [P'].

    Compares by score, so that any of several equal items counts. People who have nothing
    to find are left out.

    Args:
      found_scores: [P, k] scores of distinct found items; -inf is none.
      exact_scores: [P, k] the best possible scores, best first; -inf is none.

    Raises:
      ValueError: if nobody has anything to find.
    """
    has_any = np.isfinite(exact_scores).any(axis=1)
    if not has_any.any():
        raise ValueError(
            "Recall is undefined: the exact search found nothing for any of "
            f"{len(exact_scores)} people; expected at least one person with a known item."
        )
    found_scores, exact_scores = found_scores[has_any], exact_scores[has_any]
    is_possible = np.isfinite(exact_scores)
    worst = np.where(is_possible, exact_scores, np.inf).min(axis=1, keepdims=True)
    tolerance = _TOLERANCE * np.maximum(1.0, np.abs(worst))
    found = (found_scores >= worst - tolerance).sum(axis=1)
    return np.minimum(found / is_possible.sum(axis=1), 1.0)


def largest_loss(before: np.ndarray, after: np.ndarray) -> float:
    """Returns the upper end of the one-sided 95 % confidence interval of the mean loss.

    Args:
      before: [P'], shares of the same people as
      after: [P'].
    """
    loss = before - after
    return float(loss.mean() + _error(loss))


def _error(values: np.ndarray) -> float:
    """Returns how far the end of the one-sided 95 % interval is from the mean of ``values``."""
    return float(_NORMAL_95 * values.std() / np.sqrt(len(values)))


def affordable_people(wanted: int, num_items: int, interests_shape: Sequence[int]) -> int:
    """Returns for how many people an index is compared with exact search, at most ``wanted``.

    Exact search takes as long as there are items, so a large catalogue is measured with fewer
    people: 195 of 500 at ten million items, four interests and 64 dimensions.

    Args:
      wanted: See ``IndexConfig.num_queries``.
      num_items: Items that can be found.
      interests_shape: K and d.
    """
    each = num_items * int(np.prod(interests_shape))
    return min(wanted, max(_EXACT_BUDGET // max(each, 1), _MIN_PEOPLE))


def latencies_ms(call: Callable[[int], object], count: int, warmup: int = 3) -> np.ndarray:
    """Times ``call(i)`` for i in 0..count-1, in milliseconds, after a warm-up."""
    for i in range(warmup):
        call(i % count)
    times = np.empty(count)
    for i in range(count):
        start = time.perf_counter()
        call(i)
        times[i] = time.perf_counter() - start
    return times * 1e3
