"""Exact and ScaNN search against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval import search as search_module
from retrieval.ranking import rank_once
from retrieval.scann_search import ScannSearch, ScannSettings
from retrieval.search import ExactSearch
from tests.synthetic_tower import unit_vectors

_NUM_ITEMS, _DIM = 1500, 16


def numpy_ranking(vectors, interests, mask, k):
    """Exact top k over a person's active interests."""
    scores = (vectors @ interests[mask].T).max(axis=1)
    order = np.argsort(-scores, kind="stable")[:k]
    return order, scores[order]


@pytest.fixture(scope="module")
def vectors():
    return tf.Variable(unit_vectors(_NUM_ITEMS, _DIM))


@pytest.fixture(scope="module")
def people():
    interests = unit_vectors(15, _DIM, seed=1).reshape(5, 3, _DIM)
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    return interests, mask


def _rank(search, people, k):
    interests, mask = people
    excluded = tf.fill([len(mask), 1], -1)
    return rank_once(search, tf.constant(interests), tf.constant(mask), excluded, tf.constant(k))


@pytest.mark.parametrize("scores_per_block", [1, 7000, 1 << 24])
def test_exact_search_equals_numpy_whatever_the_block(
    vectors, people, monkeypatch, scores_per_block
):
    monkeypatch.setattr(search_module, "SCORES_PER_BLOCK", scores_per_block)
    # Blocks of one item are slow: a smaller catalogue will do.
    if scores_per_block == 1:
        vectors = tf.Variable(vectors[:40])
    found = _rank(ExactSearch(vectors), people, 30)
    for row, (interests, mask) in enumerate(zip(*people, strict=True)):
        order, scores = numpy_ranking(vectors.numpy(), interests, mask, 30)
        assert found.positions[row].numpy().tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[row], scores, atol=1e-6)


@pytest.mark.parametrize(
    ("num_leaves", "settings"),
    [(0, ScannSettings(1, _NUM_ITEMS)), (12, ScannSettings(12, _NUM_ITEMS))],
    ids=["hashes", "tree"],
)
def test_scann_that_searches_everything_equals_numpy(vectors, people, num_leaves, settings):
    found = _rank(ScannSearch(vectors, num_leaves, settings, 30), people, 30)
    for row, (interests, mask) in enumerate(zip(*people, strict=True)):
        order, scores = numpy_ranking(vectors.numpy(), interests, mask, 30)
        assert found.positions[row].numpy().tolist() == order.tolist()
        np.testing.assert_allclose(found.scores[row], scores, atol=1e-5)


def test_more_leaves_find_more_and_settings_change_without_a_rebuild(vectors, people):
    search = ScannSearch(vectors, 12, ScannSettings(1, 30), 30)

    def overlap():
        found = _rank(search, people, 30).positions.numpy()
        exact = _rank(ExactSearch(vectors), people, 30).positions.numpy()
        return np.mean([len(set(a) & set(b)) for a, b in zip(found, exact, strict=True)]) / 30

    one_leaf = overlap()
    search.use(ScannSettings(12, 300))
    assert one_leaf < 0.7
    assert overlap() > 0.98


def test_no_search_waits_for_another(vectors):
    """Else a batch would keep one core busy however many there are."""
    search = ScannSearch(vectors, 12, ScannSettings(1, 10), 10)

    @tf.function
    def find(interests, mask):
        return search.candidates(interests, mask, tf.constant(10), tf.constant(10))

    graph = find.get_concrete_function(
        tf.TensorSpec([None, 3, _DIM]), tf.TensorSpec([None, 3], tf.bool)
    ).graph
    searches = [op for op in graph.get_operations() if op.type == "Scann>ScannSearchBatched"]
    assert len(searches) == 2
    for op in searches:
        assert not set(op.control_inputs) & set(searches)


def test_a_larger_request_searches_more_leaves(vectors):
    """k beyond the tuned depth widens the search in proportion."""
    search = ScannSearch(vectors, 12, ScannSettings(1, 10), 10)
    query = tf.constant(unit_vectors(1, _DIM, seed=2)[np.newaxis])
    mask = tf.constant([[True]])

    def num_found(k):
        found = search.candidates(query, mask, tf.constant(_NUM_ITEMS), tf.constant(k))
        return int(tf.reduce_sum(tf.cast(found.positions >= 0, tf.int32)))

    assert num_found(10) < num_found(40) < num_found(120) == _NUM_ITEMS


def test_two_indexes_in_one_process_do_not_answer_for_each_other(people):
    """ScaNN finds its index by name; equal settings must not mean equal names."""
    first, second = (tf.Variable(unit_vectors(200, _DIM, seed=seed)) for seed in (3, 4))
    settings = ScannSettings(1, 200)
    searches = [ScannSearch(vectors, 0, settings, 20) for vectors in (first, second)]
    for search in searches:
        found = _rank(search, people, 5)
        order, _ = numpy_ranking(search.vectors.numpy(), people[0][0], people[1][0], 5)
        assert found.positions[0].numpy().tolist() == order.tolist()


@pytest.mark.parametrize("num_items", [2, 100])
def test_an_index_has_no_undefined_content(num_items):
    """The parts that an index lacks would else hold what the memory held before."""
    vectors = tf.Variable(unit_vectors(num_items, _DIM))
    one, other = (ScannSearch(vectors, 0, ScannSettings(1, 10), 100) for _ in range(2))
    for name, part in _by_name(one).items():
        np.testing.assert_array_equal(part, _by_name(other)[name], err_msg=name)


def _by_name(search):
    return {variable.name: variable.numpy() for variable in search.variables}


@pytest.mark.parametrize("num_items", [1, 2, 17])
def test_tiny_catalogues_are_searched_whole(num_items, people):
    vectors = tf.Variable(unit_vectors(num_items, _DIM))
    found = _rank(ScannSearch(vectors, 0, ScannSettings(1, 10), 100), people, 25)
    for row in range(len(people[0])):
        positions = found.positions[row].numpy()
        assert sorted(positions[:num_items]) == list(range(num_items))
        assert (positions[num_items:] == -1).all()


def test_nobody_with_an_interest_is_a_valid_batch(vectors):
    search = ScannSearch(vectors, 0, ScannSettings(1, 50), 20)
    found = _rank(search, (np.zeros([2, 3, _DIM], np.float32), np.zeros([2, 3], bool)), 5)
    assert found.positions.numpy().tolist() == [[-1] * 5] * 2


def test_items_of_one_length_are_partitioned_by_direction(people):
    """Among them the centre of a wide leaf is short, and would lose against narrower leaves."""
    generator = np.random.default_rng(0)
    narrow, wide = (
        centre + spread * generator.normal(size=(600, _DIM))
        for centre, spread in zip(np.eye(2, _DIM), (0.02, 0.6), strict=True)
    )
    items = np.concatenate([narrow, wide]).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    # Nearer to the wide cluster; the product with its centre is smaller all the same.
    query = np.array([0.75, 1.0, *[0.0] * (_DIM - 2)], np.float32)
    query /= np.linalg.norm(query)
    exact = set(np.argsort(-(items @ query))[:20].tolist())
    assert len([item for item in exact if item >= 600]) >= 10
    search = ScannSearch(tf.Variable(items), 2, ScannSettings(1, 600), 20)
    found = _rank(search, (query[np.newaxis, np.newaxis], np.array([[True]])), 20)
    assert len(exact & set(found.positions.numpy()[0].tolist())) >= 10
