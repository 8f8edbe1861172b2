"""Recall and latency of an index."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

# Scores this close to the k-th best count as found, because float32 sums differ in their last
# bits between kernels and equal vectors tie.
_TOLERANCE = 1e-5
# The 95 % quantile of the standard normal distribution.
_NORMAL_95 = 1.645
# How many multiplications the exact search for all people together may take, and the smallest
# number of people, for whom it runs whatever it takes.
_EXACT_BUDGET = 5 * 10**11
_MIN_PEOPLE = 100


# In one batch, the deepest search is at most this many times as deep as the shallowest.
_LIKE_DEPTHS = 1.05


@dataclasses.dataclass(frozen=True)
class Recall:
    """Share of the exact top k that the index found.

    Attributes:
      mean: Mean of the shares over people.
      lower: Lower end of the one-sided 95 % confidence interval of the mean.
      people: Number of people.
    """

    mean: float
    lower: float
    people: int


def like_depths(num_excluded: Sequence[int], k: int, size: int) -> list[np.ndarray]:
    """Divides people into batches whose recall is that of requests for one person each.

    A batch is searched as deep as the person with the most excluded items needs. Beside others, a
    person with few of them would be searched much deeper than alone.

    Args:
      num_excluded: Number of distinct excluded items of each person, [P].
      k: Number of items that each of them asks for.
      size: Largest number of people in a batch.

    Returns:
      The people of each batch, int64, those with the fewest excluded items first.
    """
    batches: list[list[int]] = []
    for person in np.argsort(num_excluded, kind="stable").tolist():
        last = batches[-1] if batches else []
        depth = k + num_excluded[person]
        if last and len(last) < size and depth <= _LIKE_DEPTHS * (k + num_excluded[last[0]]):
            last.append(person)
        else:
            batches.append([person])
    return [np.array(batch) for batch in batches]


def recall(found_scores: np.ndarray, exact_scores: np.ndarray) -> Recall:
    """Summarises ``recall_shares``, which has the same arguments and raises the same error."""
    shares = recall_shares(found_scores, exact_scores)
    mean = float(shares.mean())
    return Recall(mean, mean - _error(shares), len(shares))


def recall_shares(found_scores: np.ndarray, exact_scores: np.ndarray) -> np.ndarray:
    """Returns, for each person, the share of the exact top k that was found, float [P'].

    The comparison is by score, so that any of several items with equal scores counts. People for
    whom the exact search found nothing are left out.

    Args:
      found_scores: [P, k], the scores of the distinct items that were found, padded with -inf.
      exact_scores: [P, k], the best possible scores, best first, padded with -inf.

    Raises:
      ValueError: if the exact search found nothing for anybody.
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
      before: [P'], shares (``recall_shares``) before a change.
      after: [P'], the shares of the same people after it.
    """
    loss = before - after
    return float(loss.mean() + _error(loss))


def _error(values: np.ndarray) -> float:
    """Returns the distance from the mean of ``values`` to the one-sided 95 % confidence bound."""
    return float(_NORMAL_95 * values.std() / np.sqrt(len(values)))


def affordable_people(wanted: int, num_items: int, interests_shape: Sequence[int]) -> int:
    """Returns the number of people for whom an index is compared with exact search.

    The time of an exact search grows with the number of items, so a large catalogue is measured
    with fewer people: 195 of 500 at ten million items, four interests and 64 dimensions.

    Args:
      wanted: The largest number of people; see ``IndexConfig.num_queries``.
      num_items: Number of items that can be found.
      interests_shape: Number of interests K, and dimensions d.
    """
    each = num_items * int(np.prod(interests_shape))
    return min(wanted, max(_EXACT_BUDGET // max(each, 1), _MIN_PEOPLE))


def latencies_ms(call: Callable[[int], object], count: int, warmup: int = 3) -> np.ndarray:
    """Returns the time of ``call(i)`` for i in 0..count-1, in milliseconds, after a warm-up."""
    for i in range(warmup):
        call(i % count)
    times = np.empty(count)
    for i in range(count):
        start = time.perf_counter()
        call(i)
        times[i] = time.perf_counter() - start
    return times * 1e3
