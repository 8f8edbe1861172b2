"""Chooses the algorithm of the index by catalogue size, and its settings by measured recall."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from contract import signatures as names
from retrieval.bundle import RetrievalBundle
from retrieval.config import IndexConfig
from retrieval.exact_truth import exact_scores
from retrieval.interest_merging import NEVER, merge_interests
from retrieval.measure import largest_loss, latencies_ms, like_depths, recall, recall_shares
from retrieval.people import People
from retrieval.ranking import rank_once
from retrieval.scann_search import ScannSearch, ScannSettings
from retrieval.search import CatalogueSearch, ExactSearch, Search
from retrieval.tower import knows_person

_ITEMS_PER_LEAF = 1000
# The largest number of leaves, as a multiple of the square root of the number of items.
_MOST_LEAVES_BY_ROOT = 2.6
# The factor between one tried setting and the next.
_STEP = 1.5
# The tried numbers of reordered candidates per requested item.
_REORDER_PER_ITEM = (2, 4, 8)
_PEOPLE_PER_BATCH = 64
_TIMED_REQUESTS = 50
# The smallest accepted share of people who get a full answer. The others have to be searched
# exactly, which is slow.
_MIN_FULL_ANSWERS = 0.99
# Larger settings are tried only if the last step gained at least this share of the recall that was
# missing to the target.
_LEAST_GAIN = 0.02
# The minimum cosines for merging, tried in this order until one loses too much recall.
_MERGE_COSINES = tuple(np.round(np.arange(0.975, -0.01, -0.025), 3).tolist())
# Merging that saves a smaller share of the searches is not worth its own cost.
_LEAST_SAVED = 0.05
# A smaller cosine is tried only if it saves this much more, as a share of all searches.
_MORE_SAVED = 0.005


class Query(NamedTuple):
    """The inputs of ``retrieval.ranking`` for a batch of people.

    Attributes:
      interests: float32 [B, K, d].
      mask: bool [B, K], the active interests.
      excluded: int32 [B, X], positions to leave out, which are those of the history; -1 is padding.
    """

    interests: tf.Tensor
    mask: tf.Tensor
    excluded: tf.Tensor


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """The measurements of one setting that was tried.

    Attributes:
      leaves_to_search: See ``ScannSettings``.
      reorder: See ``ScannSettings``.
      recall: Mean recall over people.
      recall_lower: Lower end of its one-sided 95 % confidence interval.
      full_answers: Share of people for whom the search found as many items as possible.
      latency_ms: Median time to search for one person in milliseconds, without the user tower.
    """

    leaves_to_search: int
    reorder: int
    recall: float
    recall_lower: float
    full_answers: float
    latency_ms: float


def build_search(vectors: tf.Variable, config: IndexConfig) -> CatalogueSearch:
    """Builds the index that suits ``config`` and the number of vectors."""
    num_items = int(tf.shape(vectors)[0])
    if config.kind == "exact" or (config.kind == "auto" and num_items < config.exact_below_items):
        return ExactSearch(vectors)
    num_leaves = leaves_of(num_items) if num_items >= config.tree_from_items else 0
    settings = ScannSettings(
        leaves_to_search=max(1, num_leaves // 10),
        reorder=min(num_items, config.recall_k * _REORDER_PER_ITEM[0]),
    )
    return ScannSearch(vectors, num_leaves, settings, config.recall_k)


class Tuned(NamedTuple):
    """The result of tuning, which also leaves the search with the chosen settings.

    Attributes:
      curve: Recall and latency of all settings that were tried without merging.
      recall: Mean recall of the chosen settings over the people used for tuning.
      searches_saved: Share of these people's searches that merging similar interests saves.
    """

    curve: list[CurvePoint]
    recall: float
    searches_saved: float


def leaves_of(num_items: int) -> int:
    """Returns the number of leaves into which a tree partitions the items.

    Up to a million items it is about the square root of their number, as ScaNN's documentation
    advises, so that there are as many leaves as items in a leaf. Beyond a million items there are
    more leaves, because a catalogue with ten times the items also has about ten times the kinds of
    items, and if leaves mix kinds, many of them have to be searched. The build time grows with the
    product of items and leaves, which is why the number is limited to a multiple of the square
    root.
    """
    root = math.sqrt(num_items)
    return round(max(root, min(num_items / _ITEMS_PER_LEAF, _MOST_LEAVES_BY_ROOT * root)))


def tune(search: ScannSearch, queries: Sequence[Query], config: IndexConfig) -> Tuned:
    """Tries settings and leaves ``search`` with the fastest that reach the recall target.

    The lower confidence bound of the recall must reach the target, so that the recall for other
    people is likely to reach it too. Nearly everybody must get a full answer, because the exact
    search that completes the other answers is slow. If no settings meet both conditions, those with
    the best recall are used, and the validator decides whether the index is good enough.

    If similar interests may be merged (``max_merge_loss``), merging is tried with more candidates:
    once with the settings that exceed the target by the allowed loss, and once with 1.5 times as
    many candidates. For each of these, the function looks for the smallest cosine that reaches the
    target and loses at most ``max_merge_loss`` of the recall of the settings without merging, both
    with 95 % confidence.

    Args:
      search: The search to tune; it keeps the chosen settings.
      queries: Interests of real people, in batches.
      config: Gives ``recall_target``, ``max_merge_loss`` and ``recall_k``.

    Returns:
      The measurements; see ``Tuned``.
    """
    people = TuningPeople(search, queries, config.recall_k)
    target = config.recall_target
    num_interests = queries[0].mask.shape[1]
    may_lose = config.max_merge_loss if num_interests > 1 else 0.0
    curve = _curve(search, people, config, min(target + may_lose, 1.0))
    chosen = choose(curve, target)
    search.use(ScannSettings(chosen.leaves_to_search, chosen.reorder))
    if may_lose:
        apart = recall_shares(people.found(), people.exact)
        ample = choose(curve, min(target + may_lose, 1.0))
        best: _Merging | None = None
        for factor in (1.0, _STEP):
            reorder = min(math.ceil(ample.reorder * factor), people.num_items)
            settings = ScannSettings(ample.leaves_to_search, reorder)
            merging = _merge(search, settings, people, apart, config)
            if merging and merging.saved >= _LEAST_SAVED + (best.saved if best else 0.0):
                best = merging
        if best:
            search.use(best.settings)
            search.merge_cosine.assign(best.cosine)
            return Tuned(curve, round(best.recall, 5), round(best.saved, 4))
        search.use(ScannSettings(chosen.leaves_to_search, chosen.reorder))
        search.merge_cosine.assign(NEVER)
    return Tuned(curve, chosen.recall, 0.0)


class _Merging(NamedTuple):
    """Settings with which similar interests can be merged.

    Attributes:
      settings: The settings of the search.
      cosine: The minimum cosine of interests that are merged.
      recall: Mean recall with these settings and this cosine.
      saved: Share of the searches that merging saves.
    """

    settings: ScannSettings
    cosine: float
    recall: float
    saved: float


def _curve(
    search: ScannSearch, people: "TuningPeople", config: IndexConfig, target: float
) -> list[CurvePoint]:
    """Tries the settings of each group in turn.

    A group ends when a setting reaches ``target``, is slower than the best that did, or gains too
    little recall.
    """
    curve: list[CurvePoint] = []
    for group in _settings(people.num_items, search.num_leaves, config.recall_k):
        best = min((p.latency_ms for p in curve if _reaches(p, target)), default=math.inf)
        before = -math.inf
        for settings in group:
            search.use(settings)
            scores = people.found()
            measured = recall(scores, people.exact)
            point = CurvePoint(
                leaves_to_search=settings.leaves_to_search,
                reorder=settings.reorder,
                recall=round(measured.mean, 5),
                recall_lower=round(measured.lower, 5),
                full_answers=round(people.full_answers(scores), 5),
                latency_ms=round(float(np.median(people.latencies_ms())), 3),
            )
            curve.append(point)
            gains_little = point.recall - before < (target - point.recall) * _LEAST_GAIN
            is_at_its_end = gains_little and people.can_gain(search, settings)
            if _reaches(point, target) or point.latency_ms > best or is_at_its_end:
                break
            before = point.recall
    return curve


def _merge(
    search: ScannSearch,
    settings: ScannSettings,
    people: "TuningPeople",
    apart: np.ndarray,
    config: IndexConfig,
) -> _Merging | None:
    """Returns the merging with the smallest cosine that does not lose too much recall, if any.

    ``apart`` has the people's recall without merging, which the loss is measured from.
    """
    search.use(settings)
    best = None
    wanted = _LEAST_SAVED
    for cosine in _MERGE_COSINES:
        saved = people.searches_saved(cosine)
        if saved < wanted:
            continue
        wanted = saved + _MORE_SAVED
        search.merge_cosine.assign(cosine)
        scores = people.found()
        measured = recall(scores, people.exact)
        loss = largest_loss(apart, recall_shares(scores, people.exact))
        if (
            loss > config.max_merge_loss
            or measured.lower < config.recall_target
            or people.full_answers(scores) < _MIN_FULL_ANSWERS
        ):
            break
        best = _Merging(settings, cosine, measured.mean, saved)
    return best


class TuningPeople:
    """The people with whom a search is tuned, and the exact results that it should find.

    Attributes:
      num_items: Number of items in the index, R.
      exact: float32 [P, k], the best possible scores of each person.
      depth: The most candidates that a search fetches in any case: k, and as many as somebody's
        excluded items.
    """

    def __init__(self, search: ScannSearch, queries: Sequence[Query], recall_k: int) -> None:
        """Searches exactly for ``queries``, at a depth of ``recall_k``."""
        self.num_items = int(tf.shape(search.vectors)[0])
        k = min(recall_k, self.num_items)
        interests, mask = (
            np.concatenate([part.numpy() for part in parts])
            for parts in ([q.interests for q in queries], [q.mask for q in queries])
        )
        excluded = [np.unique(row[row >= 0]) for q in queries for row in q.excluded.numpy()]
        self._batches = [
            (people, _query(interests, mask, excluded, people))
            for people in like_depths([row.size for row in excluded], k, _PEOPLE_PER_BATCH)
        ]
        self._single = [
            _query(interests, mask, excluded, [person])
            for person in np.arange(_TIMED_REQUESTS) % len(excluded)
        ]
        self.exact = exact_scores(search.vectors, interests, mask, excluded, k)  # [P, k]
        self.depth = min(k + max(row.size for row in excluded), self.num_items)
        self._approximate = _scores(search, k)

    def can_gain(self, search: ScannSearch, settings: ScannSettings) -> bool:
        """Whether these settings can find more than smaller ones of their group."""
        return search.num_leaves > 0 or settings.reorder > self.depth

    def found(self) -> np.ndarray:
        """Returns the scores [P, k] that the search finds."""
        scores = np.empty_like(self.exact)
        for people, query in self._batches:
            scores[people] = self._approximate(query)
        return scores

    def latencies_ms(self) -> np.ndarray:
        """Returns the times of searches for one person each, in milliseconds."""
        return latencies_ms(lambda i: self._approximate(self._single[i]), len(self._single))

    def full_answers(self, scores: np.ndarray) -> float:
        """Returns the share of people with as many ``scores`` [P, k] as the exact search found."""
        is_full = np.isfinite(scores).sum(axis=1) >= np.isfinite(self.exact).sum(axis=1)
        return float(is_full.mean())

    def searches_saved(self, cosine: float) -> float:
        """Returns the share of all searches saved by merging interests of at least ``cosine``."""
        apart = merged = 0
        for _, query in self._batches:
            together = merge_interests(query.interests, query.mask, tf.constant(cosine))
            apart += int(tf.math.count_nonzero(query.mask))
            merged += int(tf.math.count_nonzero(together.mask))
        return 1.0 - merged / max(apart, 1)


def queries_of(bundle: RetrievalBundle, people: People) -> list[Query]:
    """Returns the queries to the index when ``people`` ask for recommendations.

    They leave out the history if requests do so by default (``IndexConfig.exclude_history``).
    """
    queries = []
    for batch in people.batches(_PEOPLE_PER_BATCH):
        history = tf.constant(batch.history, tf.string)
        person = {name: tf.constant(values) for name, values in batch.person.items()}
        user = bundle.tower.user_interests(history, person)
        owned = bundle.items.to_positions(history)
        knows_any = knows_person(owned, user[names.HISTORY_INDEX])[:, tf.newaxis]
        excluded = owned if bundle.config.exclude_history else tf.fill(tf.shape(owned), -1)
        queries.append(
            Query(user[names.INTERESTS], user[names.INTEREST_MASK] & knows_any, excluded)
        )
    return queries


def _reaches(point: CurvePoint, target: float) -> bool:
    return point.recall_lower >= target and point.full_answers >= _MIN_FULL_ANSWERS


def choose(curve: Sequence[CurvePoint], target: float) -> CurvePoint:
    """Returns the fastest point that reaches ``target``; if none does, the one of best recall."""
    reaching = [point for point in curve if _reaches(point, target)]
    if reaching:
        return min(reaching, key=lambda point: point.latency_ms)
    return max(curve, key=lambda point: point.recall)


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


def _query(
    interests: np.ndarray,
    mask: np.ndarray,
    excluded: Sequence[np.ndarray],
    people: Sequence[int] | np.ndarray,
) -> Query:
    """Returns the query of some of the people; see ``Query`` for the arguments."""
    rows = [excluded[person] for person in people]
    table = np.full([len(rows), max(1, *(row.size for row in rows))], -1, np.int32)
    for row, positions in zip(table, rows, strict=True):
        row[: positions.size] = positions
    return Query(tf.constant(interests[people]), tf.constant(mask[people]), tf.constant(table))


def _scores(search: Search, k: int) -> Callable[[Query], np.ndarray]:
    """Returns a function from a query to the scores [B, k] that ``search`` finds."""
    ranked = tf.function(
        functools.partial(rank_once, search, k=tf.constant(k)),
        autograph=False,
        reduce_retracing=True,
    )
    return lambda query: ranked(*query).scores.numpy()
