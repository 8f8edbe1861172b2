"""The greedy choice against the paper's formula, by hand and in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.diversity import diversify
from retrieval.search import Candidates

_diversify = tf.function(diversify, reduce_retracing=True)


def run(scores, categories, weight, k):
    """Chooses among items 100, 101, …; returns items and scores as lists."""
    scores = np.asarray(scores, np.float32)
    positions = np.where(np.isfinite(scores), 100 + np.arange(scores.shape[1]), -1)
    found = _diversify(
        Candidates(tf.constant(positions, tf.int32), tf.constant(scores)),
        tf.constant(scores),
        tf.constant(categories, tf.int32),
        tf.constant(weight, tf.float32),
        tf.constant(k),
    )
    return found.positions.numpy().tolist(), found.scores.numpy().tolist()


def gain(item, chosen, scores, categories, weight):
    """What adding ``item`` to ``chosen`` adds to the paper's Q(u, S)."""
    different = 0
    for other in chosen:
        mine, its = set(categories[item]) - {0}, set(categories[other]) - {0}
        different += bool(mine and its and not mine & its)
    return np.float32(scores[item]) + np.float32(weight) * np.float32(different)


def oracle(scores, categories, weight, k):
    chosen = []
    while len(chosen) < k:
        left = [i for i, s in enumerate(scores) if i not in chosen and np.isfinite(s)]
        if not left:
            break
        chosen.append(max(left, key=lambda i: (gain(i, chosen, scores, categories, weight), -i)))
    return [100 + i for i in chosen] + [-1] * (k - len(chosen))


def test_by_hand():
    scores = [[0.9, 0.8, 0.7, 0.6]]
    categories = [[[1], [1], [2], [3]]]
    # At 0.25: 102 has 0.95 against 0.8; then 103 has 0.6 + 2 * 0.25 against 0.8 + 0.25.
    # At 0.15: 102 has 0.85 against 0.8; then 101 has 0.8 + 0.15 against 0.6 + 2 * 0.15.
    assert run(scores, categories, [0.0], 3)[0] == [[100, 101, 102]]
    assert run(scores, categories, [0.25], 3)[0] == [[100, 102, 103]]
    assert run(scores, categories, [0.15], 3)[0] == [[100, 102, 101]]
    _, found = run(scores, categories, [0.25], 3)
    np.testing.assert_allclose(found, [[0.9, 0.7, 0.6]], atol=1e-6)


def test_items_that_share_one_of_their_categories_are_alike():
    scores = [[0.9, 0.8, 0.7]]
    assert run(scores, [[[1, 2], [2, 3], [4, 0]]], [0.5], 2)[0] == [[100, 102]]
    assert run(scores, [[[1, 2], [3, 4], [4, 0]]], [0.5], 2)[0] == [[100, 101]]


def test_an_item_without_category_earns_and_gives_nothing():
    assert run([[0.9, 0.8, 0.7]], [[[1], [1], [0]]], [1.0], 2)[0] == [[100, 101]]
    assert run([[0.9, 0.8, 0.7]], [[[0], [1], [2]]], [1.0], 2)[0] == [[100, 101]]


def test_equal_gains_take_the_earlier_candidate():
    scores = [[0.5] * 6]
    categories = [[[1], [1], [2], [2], [3], [3]]]
    assert run(scores, categories, [0.5], 6)[0] == [[100, 102, 104, 101, 103, 105]]


def test_fewer_candidates_than_wanted_end_in_padding():
    items, scores = run([[0.9, 0.8, -np.inf]], [[[1], [2], [3]]], [1.0], 4)
    assert items == [[100, 101, -1, -1]]
    assert scores[0][2:] == [-np.inf, -np.inf]


@st.composite
def _cases(draw):
    pool, width = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    rows = draw(st.integers(1, 3))
    # Eighths are exact in float32 and tie often.
    eighths = st.integers(-8, 8).map(lambda n: n / 8)
    scores = [
        sorted(draw(st.lists(eighths, min_size=pool, max_size=pool)), reverse=True)
        for _ in range(rows)
    ]
    cells = st.lists(st.integers(0, 4), min_size=width, max_size=width)
    categories = [draw(st.lists(cells, min_size=pool, max_size=pool)) for _ in range(rows)]
    weights = [draw(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])) for _ in range(rows)]
    return scores, categories, weights, draw(st.integers(1, 10))


@settings(max_examples=80, deadline=None)
@given(_cases())
def test_every_row_equals_the_oracle_of_its_own_weight(case):
    scores, categories, weights, k = case
    items, _ = run(scores, categories, weights, k)
    for row, found in enumerate(items):
        assert found == oracle(scores[row], categories[row], weights[row], k)


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_weight_brings_more_categories(seed):
    rng = np.random.default_rng(seed)
    scores = -np.sort(-rng.normal(size=(1, 80)), axis=1)
    categories = rng.integers(1, 12, (1, 80, 1))
    weights = (0.0, 0.1, 0.5, 1.0)
    counts = []
    for weight in weights:
        items, _ = run(scores, categories, [weight], 10)
        counts.append(len({int(categories[0, item - 100, 0]) for item in items[0]}))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
