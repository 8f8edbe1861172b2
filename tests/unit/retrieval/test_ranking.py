"""Ranking against a NumPy oracle."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.ranking import best_distinct, count_distinct, rank
from retrieval.search import Candidates, ExactSearch
from tests.synthetic_tower import unit_vectors

_NONE = np.float32(-np.inf)


def oracle(positions, scores, excluded, k):
    """Best score per item, without the excluded, best first, ties by position."""
    best: dict[int, float] = {}
    for position, score in zip(positions, scores, strict=True):
        if position >= 0 and position not in excluded and np.isfinite(score):
            best[position] = max(score, best.get(position, -np.inf))
    ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:k]
    ordered += [(-1, -np.inf)] * (k - len(ordered))
    return [list(column) for column in zip(*ordered, strict=True)]


@st.composite
def _rows(draw):
    width = draw(st.integers(0, 12))
    excluded_width = draw(st.integers(0, 5))
    rows = draw(st.integers(1, 3))
    integers = st.integers(-1, 6)
    # Whole numbers, so that ties are frequent; others, so that every bit counts.
    scores = st.one_of(
        st.just(-np.inf),
        st.integers(-3, 3).map(float),
        # TensorFlow's threads take subnormal numbers for zero.
        st.floats(-2.0, 2.0, width=32, allow_subnormal=False),
    )

    def table(values, columns):
        return draw(
            st.lists(
                st.lists(values, min_size=columns, max_size=columns), min_size=rows, max_size=rows
            )
        )

    return (
        table(integers, width),
        table(scores, width),
        table(integers, excluded_width),
        draw(st.integers(1, 8)),
    )


@settings(max_examples=60, deadline=None)
@given(_rows())
def test_best_distinct_equals_the_oracle(case):
    positions, scores, excluded, k = case
    rows = len(positions)
    got = best_distinct(
        Candidates(
            tf.constant(positions, tf.int32, shape=[rows, len(positions[0])]),
            tf.constant(scores, tf.float32, shape=[rows, len(positions[0])]),
        ),
        tf.constant(excluded, tf.int32, shape=[rows, len(excluded[0])]),
        tf.constant(k),
    )
    for row in range(rows):
        expected = oracle(positions[row], scores[row], set(excluded[row]), k)
        assert got.positions[row].numpy().tolist() == expected[0]
        assert got.scores[row].numpy().tolist() == expected[1]


def test_count_distinct_ignores_repetitions_and_padding():
    rows = tf.constant([[3, -1, 3, 0], [-1, -1, -1, -1], [1, 2, 3, 4]])
    assert count_distinct(rows).numpy().tolist() == [2, 0, 4]
    assert count_distinct(tf.zeros([2, 0], tf.int32)).numpy().tolist() == [0, 0]


class BlindSearch:
    """Never finds positions 1 and 3: an index that misses what is there."""

    def __init__(self, vectors):
        self.vectors = vectors
        self._exact = ExactSearch(vectors)

    is_exact = False

    def num_items(self):
        return self._exact.num_items()

    def exact(self):
        return self._exact

    def candidates(self, interests, mask, depth, k):
        found = self._exact.candidates(interests, mask, depth, k)
        missed = (found.positions == 1) | (found.positions == 3)
        return Candidates(
            tf.where(missed, -1, found.positions), tf.where(missed, _NONE, found.scores)
        )


def test_a_search_that_finds_too_few_is_completed_exactly():
    vectors = tf.Variable(unit_vectors(20, 4))
    interests = tf.constant(unit_vectors(2, 4, seed=1)[np.newaxis])
    mask = tf.constant([[True, True]])
    # The history repeats one item: 19 items exist, not 16, and 17 are found.
    excluded = tf.constant([[5, 5, 5, 5]])
    found = rank(BlindSearch(vectors), interests, mask, excluded, tf.constant(19))
    scores = (vectors.numpy() @ interests[0].numpy().T).max(axis=1)
    expected = [item for item in np.argsort(-scores) if item != 5]
    assert found.positions[0].numpy().tolist() == expected
    np.testing.assert_allclose(found.scores[0], scores[expected], atol=1e-6)


def test_people_without_interests_do_not_cause_an_exact_search():
    vectors = tf.Variable(unit_vectors(20, 4))
    mask = tf.constant([[False, False]])
    found = rank(
        BlindSearch(vectors), tf.zeros([1, 2, 4]), mask, tf.constant([[-1]]), tf.constant(3)
    )
    assert found.positions.numpy().tolist() == [[-1, -1, -1]]
