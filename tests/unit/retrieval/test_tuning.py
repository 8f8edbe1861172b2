"""The choice of algorithm and settings."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval.config import IndexConfig
from retrieval.search import ScannSearch, ScannSettings
from retrieval.tuning import CurvePoint, Query, build_search, choose, tune
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
    config = IndexConfig(recall_k=20, recall_target=0.95)
    search = ScannSearch(vectors, num_leaves, ScannSettings(1, 20), 20)
    curve = tune(search, _queries(90, seed=1), config)
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
    curve = tune(search, _queries(30, seed=3), config)
    assert curve[0].full_answers < 1.0
    assert curve[0].recall < 0.5
