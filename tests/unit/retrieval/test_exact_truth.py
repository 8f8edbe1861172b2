"""The truth in blocks is the truth as a whole."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval import exact_truth, tower
from retrieval.exact_truth import exact_scores
from retrieval.measure import affordable_people
from retrieval.tower import blocks, retrievable_items, retrievable_vectors
from tests.synthetic_tower import Tower, unit_vectors

_NUM_ITEMS, _DIM, _PEOPLE = 300, 8, 70


def _case():
    generator = np.random.default_rng(2)
    vectors = unit_vectors(_NUM_ITEMS, _DIM)
    vectors[::50] = 0.0
    vectors[7] = vectors[8]
    interests = unit_vectors(_PEOPLE * 3, _DIM, seed=1).reshape(_PEOPLE, 3, _DIM)
    mask = generator.random((_PEOPLE, 3)) < 0.7
    mask[5] = False
    excluded = [generator.integers(-1, _NUM_ITEMS, 4) for _ in range(_PEOPLE)]
    excluded[3] = np.arange(_NUM_ITEMS - 2)
    return vectors, interests, mask, excluded


def _whole(vectors, interests, mask, excluded, k):
    best = np.full([len(interests), k], -np.inf)
    for person in range(len(interests)):
        if not mask[person].any():
            continue
        scores = (vectors @ interests[person][mask[person]].T).max(axis=1)
        scores[~vectors.any(axis=1)] = -np.inf
        scores[[row for row in excluded[person] if row >= 0]] = -np.inf
        best[person] = np.sort(scores)[::-1][:k]
    return best


@pytest.mark.parametrize("rows_at_once", [1, 7, 299, 300, 1000])
@pytest.mark.parametrize("people_at_once", [1, 32])
def test_blocks_of_any_size_give_the_whole_truth(monkeypatch, rows_at_once, people_at_once):
    monkeypatch.setattr(exact_truth, "_PEOPLE_AT_ONCE", people_at_once)
    monkeypatch.setattr(
        exact_truth, "blocks", lambda vectors: tower.blocks(vectors, size=rows_at_once)
    )
    vectors, interests, mask, excluded = _case()
    found = exact_scores(tf.Variable(vectors), interests, mask, excluded, 20)
    np.testing.assert_allclose(found, _whole(vectors, interests, mask, excluded, 20), atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 10, 11])
def test_blocks_cover_the_rows_once_and_in_order(size):
    vectors = tf.Variable(np.arange(20.0).reshape(10, 2))
    parts = list(blocks(vectors, size))
    assert [start for start, _ in parts] == list(range(0, 10, size))
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), vectors.numpy())


def test_what_can_be_found_is_the_same_in_blocks(monkeypatch):
    vectors, *_ = _case()
    items = Tower([str(i) for i in range(_NUM_ITEMS)], vectors, np.arange(_NUM_ITEMS))
    monkeypatch.setattr(tower, "blocks", lambda values: blocks(values, size=7))
    rows = retrievable_items(items)
    assert rows.tolist() == np.flatnonzero(vectors.any(axis=1)).tolist()
    np.testing.assert_array_equal(retrievable_vectors(items, rows).numpy(), vectors[rows])


def test_a_large_catalogue_is_measured_with_fewer_people():
    assert affordable_people(500, 1_000_000, (4, 64)) == 500
    assert affordable_people(500, 10_000_000, (4, 64)) == 195
    assert affordable_people(500, 1_000_000_000, (4, 64)) == 100
    assert affordable_people(60, 1_000_000_000, (4, 64)) == 60
