"""Which interests are searched together, and that scores do not depend on it."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval.interest_merging import NEVER, merge_interests
from retrieval.ranking import rank_once
from retrieval.scann_search import ScannSearch, ScannSettings
from tests.synthetic_tower import unit_vectors


def _merged(interests, mask, min_cosine):
    queries = merge_interests(
        tf.constant(interests, tf.float32), tf.constant(mask), tf.constant(min_cosine, tf.float32)
    )
    return queries.vectors.numpy(), queries.mask.numpy()


def _oracle(interests, mask, min_cosine):
    """The searches of one person: [(sum of the members, place)]."""
    searches: list[tuple[int, list[int]]] = []
    for number in np.flatnonzero(mask):
        for leader, members in searches:
            u, v = interests[leader], interests[number]
            if u @ v >= min_cosine * np.linalg.norm(u) * np.linalg.norm(v):
                members.append(number)
                break
        else:
            searches.append((number, [number]))
    return [(leader, interests[members].sum(axis=0)) for leader, members in searches]


# cos(0, 1) = 0.96, cos(1, 2) = 0.28, cos(0, 2) = 0.
_TWO_ALIKE = [[[1.0, 0.0], [0.96, 0.28], [0.0, 1.0]]]


def test_two_of_three_interests_are_alike():
    vectors, mask = _merged(_TWO_ALIKE, [[True, True, True]], 0.9)
    assert mask.tolist() == [[True, False, True]]
    np.testing.assert_allclose(vectors[0, 0], [1.96, 0.28], rtol=1e-6)
    assert vectors[0, 2].tolist() == [0.0, 1.0]


def test_an_interest_that_is_absent_neither_leads_nor_joins():
    vectors, mask = _merged(_TWO_ALIKE, [[False, True, True]], 0.9)
    assert mask.tolist() == [[False, True, True]]
    np.testing.assert_array_equal(vectors, np.float32(_TWO_ALIKE))
    _, mask = _merged(_TWO_ALIKE, [[True, False, False]], 0.0)
    assert mask.tolist() == [[True, False, False]]


def test_interests_that_are_like_a_merged_one_only_are_searched_themselves():
    """Else a chain of neighbours would put opposite interests together."""
    angles = np.radians([0, 20, 40])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1)[np.newaxis]
    _, mask = _merged(chain, [[True, True, True]], np.cos(np.radians(25)))
    assert mask.tolist() == [[True, False, True]]


def test_the_length_of_an_interest_is_its_weight_and_does_not_make_it_like_others():
    vectors, mask = _merged([[[4.0, 0.0], [0.1, 0.0], [0.0, 9.0]]], [[True] * 3], 0.99)
    assert mask.tolist() == [[True, False, True]]
    np.testing.assert_allclose(vectors[0, 0], [4.1, 0.0], rtol=1e-6)


@pytest.mark.parametrize("min_cosine", [0.0, 0.5, 0.8, 0.95])
def test_a_batch_equals_the_oracle_and_each_row_alone(min_cosine):
    generator = np.random.default_rng(0)
    centres = unit_vectors(40, 8)[:, np.newaxis, :]
    interests = (centres + 0.3 * generator.normal(size=(40, 5, 8))).astype(np.float32)
    active = generator.random((40, 5)) < 0.7
    vectors, mask = _merged(interests, active, min_cosine)
    for row in range(40):
        searches = _oracle(interests[row], active[row], min_cosine)
        assert np.flatnonzero(mask[row]).tolist() == [leader for leader, _ in searches]
        for leader, total in searches:
            np.testing.assert_allclose(vectors[row, leader], total, rtol=1e-5, atol=1e-6)
        alone = _merged(interests[row : row + 1], active[row : row + 1], min_cosine)
        assert alone[1].tolist() == mask[row : row + 1].tolist()
        np.testing.assert_allclose(alone[0][0][mask[row]], vectors[row][mask[row]], atol=1e-6)


def test_never_leaves_equal_interests_apart_bit_for_bit():
    interests = np.repeat(unit_vectors(6, 8)[:, np.newaxis, :], 3, axis=1)
    vectors, mask = _merged(interests, np.ones([6, 3], bool), NEVER)
    assert mask.all()
    np.testing.assert_array_equal(vectors, interests)


def _people():
    generator = np.random.default_rng(1)
    centres = unit_vectors(12, 16, seed=5)[:, np.newaxis, :]
    near = centres + 0.05 * generator.normal(size=(12, 2, 16))
    interests = np.concatenate([near, unit_vectors(12, 16, seed=6)[:, np.newaxis, :]], axis=1)
    interests[1, 1] *= 3.0
    return interests.astype(np.float32), generator.random((12, 3)) < 0.8


def _rank(search, interests, mask, k=20):
    excluded = tf.fill([len(mask), 1], -1)
    found = rank_once(search, tf.constant(interests), tf.constant(mask), excluded, tf.constant(k))
    return found.positions.numpy(), found.scores.numpy()


@pytest.mark.parametrize("num_leaves", [0, 12])
def test_scores_are_those_of_every_interest_although_one_search_found_the_items(num_leaves):
    vectors = tf.Variable(unit_vectors(1500, 16))
    interests, mask = _people()
    mask[:, 0] = True
    search = ScannSearch(vectors, num_leaves, ScannSettings(12, 1500), 20)
    search.merge_cosine.assign(0.8)
    positions, scores = _rank(search, interests, mask)
    for row in range(len(mask)):
        exact = (vectors.numpy() @ interests[row][mask[row]].T).max(axis=1)
        order = np.argsort(-exact, kind="stable")[:20]
        assert positions[row].tolist() == order.tolist()
        np.testing.assert_allclose(scores[row], exact[order], atol=1e-5)


def test_merging_that_finds_nothing_alike_answers_as_without_it_bit_for_bit():
    vectors = tf.Variable(unit_vectors(1500, 16))
    interests, mask = _people()
    search = ScannSearch(vectors, 12, ScannSettings(3, 60), 20)
    apart = _rank(search, interests, mask)
    search.merge_cosine.assign(0.99999)
    for before, after in zip(apart, _rank(search, interests, mask), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_person_is_answered_alike_alone_and_among_others_when_interests_are_merged():
    vectors = tf.Variable(unit_vectors(1500, 16))
    interests, mask = _people()
    search = ScannSearch(vectors, 12, ScannSettings(3, 60), 20)
    search.merge_cosine.assign(0.8)
    positions, scores = _rank(search, interests, mask)
    for row in range(len(mask)):
        alone = _rank(search, interests[row : row + 1], mask[row : row + 1])
        assert alone[0][0].tolist() == positions[row].tolist()
        np.testing.assert_allclose(alone[1][0], scores[row], atol=1e-6)
