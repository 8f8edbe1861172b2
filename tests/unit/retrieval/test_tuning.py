"""The choice of algorithm and settings."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval.config import IndexConfig
from retrieval.interest_merging import NEVER
from retrieval.measure import like_depths, recall
from retrieval.ranking import rank_once
from retrieval.scann_search import ScannSearch, ScannSettings
from retrieval.tuning import (
    CurvePoint,
    Query,
    build_search,
    choose,
    leaves_of,
    tune,
)
from tests.synthetic_tower import unit_vectors


@pytest.mark.parametrize(
    ("kind", "num_items", "algorithm"),
    [
        ("exact", 3000, "exact"),
        ("auto", 1999, "exact"),
        ("auto", 2000, "scann_ah"),
        ("scann", 50, "scann_ah"),
        ("scann", 2999, "scann_ah"),
        ("scann", 3000, "scann_tree_ah"),
        ("auto", 3000, "scann_tree_ah"),
    ],
)
def test_the_algorithm_suits_the_catalogue(kind, num_items, algorithm):
    config = IndexConfig(kind=kind, exact_below_items=2000, tree_from_items=3000)
    search = build_search(tf.Variable(unit_vectors(num_items, 4)), config)
    assert search.describe()["algorithm"] == algorithm


def test_leaves_stay_small_as_the_catalogue_grows_and_their_number_bounded():
    assert [leaves_of(n) for n in (10_000, 1_000_000, 3_000_000)] == [100, 1000, 3000]
    assert leaves_of(100_000_000) == 26_000


def _queries(num_people, seed, num_excluded=3, num_items=4000):
    generator = np.random.default_rng(seed)
    interests = unit_vectors(num_people * 2, 16, seed).reshape(num_people, 2, 16)
    mask = np.stack([np.ones(num_people, bool), np.arange(num_people) % 2 == 0], axis=1)
    excluded = generator.integers(0, num_items, [num_people, num_excluded])
    parts = (interests, mask, excluded.astype(np.int32))
    return [
        Query(*(tf.constant(part[rows]) for part in parts))
        for rows in np.array_split(np.arange(num_people), 3)
    ]


@pytest.mark.parametrize("num_leaves", [0, 40])
def test_the_chosen_settings_reach_the_target_and_are_in_use(num_leaves):
    vectors = tf.Variable(unit_vectors(4000, 16))
    config = IndexConfig(recall_k=20, recall_target=0.95, max_merge_loss=0.0)
    search = ScannSearch(vectors, num_leaves, ScannSettings(1, 20), 20)
    curve = tune(search, _queries(90, seed=1), config).curve
    reaching = [point for point in curve if point.recall_lower >= 0.95]
    chosen = min(reaching, key=lambda point: point.latency_ms)
    described = search.describe()
    assert described["reorder"] == chosen.reorder
    assert described.get("leaves_to_search", 1) == chosen.leaves_to_search
    # Below the target there is something: the search for settings began low.
    assert curve[0].recall < 0.95
    # Within one reorder depth, more leaves never find less.
    for depth in {point.reorder for point in curve if num_leaves}:
        recalls = [point.recall for point in curve if point.reorder == depth]
        assert recalls == sorted(recalls)


def test_settings_below_what_a_long_history_fetches_anyway_do_not_end_the_search():
    """20 items beside 60 excluded ones need 80 candidates, so reorder 20, 30 and 45 are alike."""
    vectors = tf.Variable(unit_vectors(4000, 16))
    config = IndexConfig(recall_k=20, recall_target=0.99, max_merge_loss=0.0)
    search = ScannSearch(vectors, 0, ScannSettings(1, 20), 20)
    curve = tune(search, _queries(90, seed=1, num_excluded=60), config).curve
    assert curve[0].recall == curve[1].recall < 0.99
    assert curve[-1].recall_lower >= 0.99


def test_people_with_short_histories_are_not_measured_beside_those_with_long_ones():
    """Every other person excludes 300 items; beside them, the others would be searched as deep."""
    vectors = tf.Variable(unit_vectors(4000, 16))
    config = IndexConfig(recall_k=20, recall_target=0.95, max_merge_loss=0.0)
    search = ScannSearch(vectors, 0, ScannSettings(1, 20), 20)
    queries = _queries(180, seed=1, num_excluded=300)
    mixed = [
        query._replace(
            excluded=tf.where(
                tf.range(query.mask.shape[0])[:, tf.newaxis] % 2 == 1, query.excluded, -1
            )
        )
        for query in queries
    ]
    tune(search, mixed, config)
    found, exact = (
        np.concatenate(
            [
                rank_once(by, *(part[row : row + 1] for part in query), tf.constant(20)).scores
                for query in mixed
                for row in range(query.mask.shape[0])
            ]
        )
        for by in (search, search.exact())
    )
    assert recall(found, exact).mean >= 0.95


def test_batches_are_of_like_depths():
    # Depths 100, 105, 106, 400: 105 is at most 1.05 times 100, 106 is not.
    batches = like_depths([5, 300, 0, 6, 0], 100, 10)
    assert [batch.tolist() for batch in batches] == [[2, 4, 0], [3], [1]]
    assert [batch.size for batch in like_depths([0] * 5, 100, 2)] == [2, 2, 1]


def _point(reorder, recall_lower, latency_ms, full_answers=1.0):
    return CurvePoint(
        leaves_to_search=1,
        reorder=reorder,
        recall=recall_lower + 0.01,
        recall_lower=recall_lower,
        full_answers=full_answers,
        latency_ms=latency_ms,
    )


def test_the_fastest_of_those_that_reach_the_target_is_chosen():
    curve = [_point(1, 0.94, 1.0), _point(2, 0.96, 3.0), _point(3, 0.95, 2.0)]
    assert choose(curve, 0.95).reorder == 3


def test_settings_that_leave_answers_short_are_not_chosen():
    curve = [_point(1, 0.97, 1.0, full_answers=0.9), _point(2, 0.96, 3.0)]
    assert choose(curve, 0.95).reorder == 2


def test_an_unreached_target_leaves_the_best_recall():
    curve = [_point(1, 0.80, 1.0), _point(2, 0.90, 3.0), _point(3, 0.85, 2.0)]
    assert choose(curve, 0.95).reorder == 2


def test_recall_is_measured_without_the_exact_search_behind_it():
    """Leaves too small to fill an answer must look bad, not slow."""
    vectors = tf.Variable(unit_vectors(4000, 16))
    search = ScannSearch(vectors, 100, ScannSettings(1, 200), 200)
    config = IndexConfig(recall_k=200, recall_target=0.9)
    curve = tune(search, _queries(30, seed=3), config).curve
    assert curve[0].full_answers < 1.0
    assert curve[0].recall < 0.5


def _alike(noise, num_people=120):
    """People of two interests whose cosine is about 1 / (1 + noise squared)."""
    generator = np.random.default_rng(7)
    centres = unit_vectors(num_people, 16, seed=8)[:, np.newaxis, :]
    spread = generator.normal(size=(num_people, 2, 16)) * noise / 4.0
    interests = (centres + spread).astype(np.float32)
    return [
        Query(
            tf.constant(interests),
            tf.ones([num_people, 2], tf.bool),
            tf.fill([num_people, 1], -1),
        )
    ]


def _tuned(queries, **config):
    vectors = tf.Variable(unit_vectors(4000, 16))
    search = ScannSearch(vectors, 40, ScannSettings(1, 20), 20)
    tuned = tune(search, queries, IndexConfig(recall_k=20, recall_target=0.95, **config))
    return search, tuned


def test_like_interests_are_merged_as_far_as_the_loss_allows():
    queries = _alike(noise=0.05)
    search, tuned = _tuned(queries, max_merge_loss=0.02)
    assert tuned.searches_saved == 0.5
    assert search.describe()["merge_cosine"] == pytest.approx(float(search.merge_cosine))
    assert tuned.recall >= 0.95
    # Less than what merging everything would lose.
    search, some = _tuned(_queries(120, seed=4), max_merge_loss=0.02)
    assert some.searches_saved < 0.5
    assert some.recall >= 0.95


def test_no_loss_allowed_leaves_interests_apart():
    search, tuned = _tuned(_alike(noise=0.05), max_merge_loss=0.0)
    assert tuned.searches_saved == 0.0
    assert float(search.merge_cosine) == NEVER
    assert "merge_cosine" not in search.describe()


def test_interests_that_are_not_alike_leave_the_settings_of_no_merging():
    search, tuned = _tuned(_queries(120, seed=4), max_merge_loss=0.001)
    chosen = choose(tuned.curve, 0.95)
    assert tuned.searches_saved == 0.0
    assert float(search.merge_cosine) == NEVER
    assert search.describe()["reorder"] == chosen.reorder
    assert search.describe()["leaves_to_search"] == chosen.leaves_to_search
