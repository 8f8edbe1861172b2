"""Chooses the index's algorithm by size and its settings by measured recall."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from components.index_builder.bundle import RetrievalBundle
from components.index_builder.config import IndexConfig
from components.index_builder.measure import latencies_ms, recall
from components.index_builder.people import People
from components.index_builder.ranking import rank
from components.index_builder.search import ExactSearch, ScannSearch, ScannSettings, Search

# Steps between tried settings, and candidates reordered per item shown.
_STEP = 1.5
_REORDER_PER_ITEM = (2, 4, 8)
_PEOPLE_PER_BATCH = 64
_TIMED_REQUESTS = 50

Query = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One tried setting.

    Attributes:
      leaves_to_search: See ``ScannSettings``.
      reorder: See ``ScannSettings``.
      recall: Mean recall over people.
      recall_lower: Lower end of its one-sided 95 % confidence interval.
      latency_ms: Median of one person's search, without the user tower.
    """

    leaves_to_search: int
    reorder: int
    recall: float
    recall_lower: float
    latency_ms: float


def build_search(vectors: tf.Variable, config: IndexConfig) -> Search:
    """Builds the index that suits ``config`` and the number of vectors."""
    num_items = vectors.shape[0]
    if config.kind == "exact" or (config.kind == "auto" and num_items < config.exact_below_items):
        return ExactSearch(vectors)
    num_leaves = round(math.sqrt(num_items)) if num_items >= config.tree_from_items else 0
    settings = ScannSettings(
        leaves_to_search=max(1, num_leaves // 10),
        reorder=min(num_items, config.recall_k * _REORDER_PER_ITEM[0]),
    )
    return ScannSearch(vectors, num_leaves, settings, config.recall_k)


def tune(
    bundle: RetrievalBundle, search: ScannSearch, people: People, config: IndexConfig
) -> list[CurvePoint]:
    """Sets ``search`` to the fastest tried settings that reach the recall target.

    The lower confidence bound must reach it, so that other people's recall
    does too. If no setting does, the one of best recall is set; the validator
    then decides.

    Args:
      bundle: Holds ``search``.
      search: Left with the chosen settings.
      people: Their interests are the queries, their histories excluded, as
        when served.
      config: Names target and depth.

    Returns:
      Everything tried: the recall-latency curve.
    """
    num_items = search.vectors.shape[0]
    k = min(config.recall_k, num_items)
    queries = [_query(bundle, batch) for batch in people.batches(_PEOPLE_PER_BATCH)]
    single = [_query(bundle, one) for one in people.repeated(_TIMED_REQUESTS).batches(1)]
    ranked = _scores(search, k)
    exact = _scores(ExactSearch(search.vectors), k)
    exact_scores = np.concatenate([exact(query) for query in queries])

    curve = []
    for group in _settings(num_items, search.num_leaves, config.recall_k):
        for settings in group:
            search.use(settings)
            found = recall(np.concatenate([ranked(query) for query in queries]), exact_scores)
            times = latencies_ms(lambda i: ranked(single[i]), len(single))
            curve.append(
                CurvePoint(
                    settings.leaves_to_search,
                    settings.reorder,
                    round(found.mean, 5),
                    round(found.lower, 5),
                    round(float(np.median(times)), 3),
                )
            )
            if found.lower >= config.recall_target:
                break
    search.use(_chosen(curve, config.recall_target))
    return curve


def _chosen(curve: list[CurvePoint], target: float) -> ScannSettings:
    reaching = [point for point in curve if point.recall_lower >= target]
    best = (
        min(reaching, key=lambda point: point.latency_ms)
        if reaching
        else max(curve, key=lambda point: point.recall)
    )
    return ScannSettings(best.leaves_to_search, best.reorder)


def _settings(num_items: int, num_leaves: int, k: int) -> Iterator[Iterator[ScannSettings]]:
    """Yields groups of settings, each in ascending order of recall."""
    if not num_leaves:
        yield (ScannSettings(1, reorder) for reorder in _geometric(k, num_items))
        return
    for per_item in _REORDER_PER_ITEM:
        yield (
            ScannSettings(leaves, min(k * per_item, num_items))
            for leaves in _geometric(max(1, num_leaves // 100), num_leaves)
        )


def _geometric(first: int, last: int) -> Iterator[int]:
    value = min(first, last)
    while value < last:
        yield value
        value = math.ceil(value * _STEP)
    yield last


def _query(bundle: RetrievalBundle, people: People) -> Query:
    """Returns interests, their mask and the excluded positions, as ``rank`` takes them."""
    history = tf.constant(people.history, tf.string)
    profile = {name: tf.constant(values, tf.string) for name, values in people.profile.items()}
    user = bundle.tower.user_interests(history, profile)
    return user["interests"], user["interest_mask"], bundle.to_positions(history)


def _scores(search: Search, k: int) -> Callable[[Query], np.ndarray]:
    """Returns a function from a query to the scores [B, k] that ``search`` finds."""
    ranked = tf.function(functools.partial(rank, search, k=tf.constant(k)), reduce_retracing=True)
    return lambda query: ranked(*query).scores.numpy()
