"""Measures the cost of each way to answer a filtered request, and derives when to use which.

This happens once, when the index is built.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from retrieval.config import IndexConfig
from retrieval.filtered_ranking import depth_of, first_depths
from retrieval.filters import AllowedSearch, ItemCategories, Selection
from retrieval.list_search import best_of
from retrieval.measure import latencies_ms
from retrieval.search import ApproximateSearch, ExactSearch, Search

# Each cost is the median over this many requests.
_TIMED = 9
# Lists with these shares of all items are timed. The cost of a list of any other length is read
# off the line through the two.
_SHARES = (0.001, 0.05)
# The ratio of one timed depth of the approximate search to the depth before it.
_STEP = 4
# The approximate search goes only as deep as costs at most this share of an exact search, which
# may still have to follow it.
_DEEPEST_COST = 0.5


@dataclasses.dataclass(frozen=True)
class FilterCosts:
    """The time that each part of answering one person takes, in milliseconds.

    Attributes:
      list_ms: Scoring an empty list.
      item_ms: Scoring one more item of a list.
      entry_ms: Checking whether one more entry of a list is allowed.
      exact_ms: Checking whether each item of the catalogue is allowed, and scoring all items.
      depth_ms: Fetching candidates from the approximate search, by the number of candidates in
        ascending order; empty if the search is exact.
    """

    list_ms: float
    item_ms: float
    entry_ms: float
    exact_ms: float
    depth_ms: dict[int, float]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The values of ``Limits`` that follow from the costs; see ``Limits`` for their meaning."""

    narrow: float
    listed: float
    entry_cost: float
    deepest: int


def choose_limits(costs: FilterCosts, k: int, num_items: int) -> Chosen:
    """Returns the limits above which another way of filtering is faster.

    Args:
      costs: The measured costs.
      k: Number of items that a request asks for.
      num_items: Number of items in the index, R.
    """
    entry_cost = costs.entry_ms / costs.item_ms
    affordable = _DEEPEST_COST * costs.exact_ms
    depths = list(costs.depth_ms)
    # A deeper search is never faster, so a smaller measured time is noise.
    times = np.maximum.accumulate([*costs.depth_ms.values()])
    deepest = 0
    if depths and times[0] <= affordable:
        deepest = int(np.interp(affordable, times, depths))

    def broad_ms(size: int) -> float:
        depth = _depth_for(k, size, num_items)
        return float(np.interp(depth, depths, times)) if depth <= deepest else costs.exact_ms

    def largest(other_ms: Callable[[int], float]) -> float:
        """Returns the work for the largest list that takes no longer than ``other_ms``."""
        work = [
            size * (1.0 + entry_cost)
            for size in _sizes(num_items)
            if costs.list_ms + size * (costs.item_ms + costs.entry_ms) <= other_ms(size)
        ]
        return round(max(work, default=0.0), 1)

    return Chosen(
        narrow=largest(broad_ms),
        listed=largest(lambda size: costs.exact_ms),
        entry_cost=round(entry_cost, 4),
        deepest=deepest,
    )


def measure_filter_costs(
    search: Search, items: ItemCategories | None, num_interests: int, config: IndexConfig
) -> FilterCosts:
    """Times each way of filtering, with the vectors of random items as interests.

    Args:
      search: The search over the items, with the settings that it will be served with.
      items: The filter whose entries are checked; None if there is no categorical filter.
      num_interests: Interests per person, K.
      config: Gives ``recall_k``, the number of items for which the costs are compared.
    """
    vectors = search.vectors
    num_items = int(tf.shape(vectors)[0])
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, num_items, [_TIMED, num_interests])
    interests = tf.gather(vectors.read_value(), chosen)  # [P, K, d]
    mask = tf.ones([1, num_interests], tf.bool)
    k = min(config.recall_k, num_items)

    def list_ms(size: int) -> float:
        score = tf.function(
            lambda listed, interest: (
                best_of(vectors, listed, interest, tf.zeros([num_interests]), tf.constant(k)).scores
            )
        )
        lists = [
            tf.constant(np.sort(generator.choice(num_items, size, replace=False)), tf.int32)
            for _ in range(_TIMED)
        ]
        return _median_ms(lambda i: score(lists[i], interests[i]))

    def search_ms(some: Search, depth: int) -> float:
        found = tf.function(
            lambda interest: (
                some.candidates(
                    interest, mask, tf.constant(min(depth, num_items)), tf.constant(depth)
                ).scores
            )
        )
        return _median_ms(lambda i: found(interests[i : i + 1]))

    sizes = sorted({max(1, math.ceil(share * num_items)) for share in _SHARES})
    times = [list_ms(size) for size in sizes]
    # A time below one nanosecond per item is noise of the clock.
    item_ms = max((times[-1] - times[0]) / max(sizes[-1] - sizes[0], 1), 1e-6)
    empty_ms = max(times[0] - item_ms * sizes[0], 0.0)
    exact: Search = ExactSearch(vectors)
    entry_ms = 0.0
    if items:
        entry_ms = _entry_ms(items, num_items, sizes[-1])
        conditions, _ = items.some_conditions(1, num_items // 2)
        exact = AllowedSearch(ExactSearch(vectors), Selection([items], [conditions], num_items))
    exact_ms = search_ms(exact, k)
    depth_ms: dict[int, float] = {}
    if isinstance(search, ApproximateSearch):
        for depth in itertools.takewhile(
            lambda depth: depth <= num_items, (k * _STEP**i for i in itertools.count())
        ):
            depth_ms[depth] = search_ms(search, depth)
            if depth_ms[depth] > _DEEPEST_COST * exact_ms:
                break
    return FilterCosts(
        list_ms=round(empty_ms, 4),
        item_ms=float(f"{item_ms:.3g}"),
        entry_ms=float(f"{entry_ms:.3g}"),
        exact_ms=round(exact_ms, 3),
        depth_ms={depth: round(ms, 3) for depth, ms in depth_ms.items()},
    )


def _entry_ms(items: ItemCategories, num_items: int, size: int) -> float:
    """Returns the time to check one entry, measured on lists with about ``size`` entries."""
    conditions, entries = items.some_conditions(_TIMED, size)
    # Denying the items without a category forces a check of every entry.
    conditions = tf.concat([tf.fill([_TIMED, 1], -1), conditions[:, 1:]], axis=1)
    listed = tf.function(
        lambda condition: Selection([items], [condition], num_items).listed(tf.constant(0))
    )
    return _median_ms(lambda i: listed(conditions[i : i + 1])) / max(entries, 1)


def _depth_for(needed: int, size: int, num_items: int) -> int:
    number = first_depths(tf.constant([needed]), tf.constant([float(size)]), tf.constant(num_items))
    return int(depth_of(number)[0])


def _sizes(num_items: int) -> list[int]:
    """Returns sizes up to that of the catalogue, each 5 % larger than the one before."""
    steps = math.ceil(math.log(num_items) / math.log(1.05)) + 1
    return sorted({min(num_items, round(1.05**step)) for step in range(steps)})


def _median_ms(call: Callable[[int], tf.Tensor]) -> float:
    return float(np.median(latencies_ms(lambda i: call(i).numpy(), _TIMED, warmup=2)))
