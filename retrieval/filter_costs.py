"""Measures, when the index is built, up to where each way of filtering is the fastest."""

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

# Requests that are timed for each cost; the median counts.
_TIMED = 9
# Lists of these shares of the items are timed; the cost of others lies on a line through them.
_SHARES = (0.001, 0.05)
# Each depth of the approximate search that is timed is so many times the one before.
_STEP = 4
# The deepest search must be worth it before everything is searched exactly.
_DEEPEST_COST = 0.5


@dataclasses.dataclass(frozen=True)
class FilterCosts:
    """What parts of an answer to one person cost, in milliseconds.

    Attributes:
      list_ms: To score an empty list.
      item_ms: To score one more item of a list.
      entry_ms: To look whether one more entry of a list is allowed.
      exact_ms: To look whether each item is allowed, and to score all of them.
      depth_ms: To fetch so many candidates from the approximate search, by their number in
        ascending order; empty if the search is exact.
    """

    list_ms: float
    item_ms: float
    entry_ms: float
    exact_ms: float
    depth_ms: dict[int, float]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The values of ``Limits`` that follow from the costs, see there."""

    narrow: float
    listed: float
    entry_cost: float
    deepest: int


def choose_limits(costs: FilterCosts, k: int, num_items: int) -> Chosen:
    """Returns the limits at which the next way becomes the faster one.

    Args:
      costs: What was measured.
      k: Items that a request wants.
      num_items: R.
    """
    entry_cost = costs.entry_ms / costs.item_ms
    affordable = _DEEPEST_COST * costs.exact_ms
    depths = list(costs.depth_ms)
    # Deeper searches do not become faster, whatever a clock says.
    times = np.maximum.accumulate([*costs.depth_ms.values()])
    deepest = 0
    if depths and times[0] <= affordable:
        deepest = int(np.interp(affordable, times, depths))

    def broad_ms(size: int) -> float:
        depth = _depth_for(k, size, num_items)
        return float(np.interp(depth, depths, times)) if depth <= deepest else costs.exact_ms

    def largest(other_ms: Callable[[int], float]) -> float:
        """Returns the work of the largest list that takes no longer than ``other_ms``."""
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
    """Times the ways with random items in the place of interests.

    Args:
      search: Searches the items, with the settings that it will serve with.
      items: A filter, to look at entries of; None if there is none to measure.
      num_interests: K.
      config: Names the number of items for which the costs are compared.
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
    # Less than a nanosecond for an item is noise of the clock.
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
    """Times the look at an entry, for lists of some categories with about ``size`` entries."""
    conditions, entries = items.some_conditions(_TIMED, size)
    # Something is denied, so that entries are looked at.
    conditions = tf.concat([tf.fill([_TIMED, 1], -1), conditions[:, 1:]], axis=1)
    listed = tf.function(
        lambda condition: Selection([items], [condition], num_items).listed(tf.constant(0))
    )
    return _median_ms(lambda i: listed(conditions[i : i + 1])) / max(entries, 1)


def _depth_for(needed: int, size: int, num_items: int) -> int:
    number = first_depths(tf.constant([needed]), tf.constant([float(size)]), tf.constant(num_items))
    return int(depth_of(number)[0])


def _sizes(num_items: int) -> list[int]:
    """Returns sizes up to that of the catalogue, each 5 % above the one before."""
    steps = math.ceil(math.log(num_items) / math.log(1.05)) + 1
    return sorted({min(num_items, round(1.05**step)) for step in range(steps)})


def _median_ms(call: Callable[[int], tf.Tensor]) -> float:
    return float(np.median(latencies_ms(lambda i: call(i).numpy(), _TIMED, warmup=2)))
