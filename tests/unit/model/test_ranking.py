"""Exact ranking against a NumPy oracle."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model import ranking


def _oracle(interests, mask, items, history, targets, exclude, retrievable):
    """Ranks by sorting every person's scores, one person at a time."""
    result = np.zeros(targets.shape, np.int32)
    num_rows = len(items)
    for u in range(len(interests)):
        scores = (interests[u][mask[u]] @ items.T).max(axis=0).astype(np.float64)
        scores[0] = -np.inf
        scores[~retrievable] = -np.inf
        if exclude:
            scores[history[u]] = -np.inf
        order = sorted(range(num_rows), key=lambda i: (-scores[i], i))
        seen = set()
        for m, target in enumerate(targets[u]):
            if target == -1 or (target > 0 and target in seen):
                continue
            if exclude and target > 0 and target in history[u]:
                continue
            seen.add(target)
            found = target > 0 and scores[target] > -np.inf
            result[u, m] = order.index(target) + 1 if found else num_rows
    return result


def _case(seed, users=7, k=3, d=4, n=19, h=5, m=6):
    rng = np.random.default_rng(seed)
    # Integer vectors: products are exact, and many scores are tied.
    interests = rng.integers(-2, 3, (users, k, d)).astype(np.float32)
    mask = rng.random((users, k)) < 0.6
    mask[:, 0] = True
    items = rng.integers(-2, 3, (n + 1, d)).astype(np.float32)
    items[0] = 0
    history = rng.integers(0, n + 1, (users, h)).astype(np.int32)
    targets = rng.integers(-1, n + 1, (users, m)).astype(np.int32)
    retrievable = rng.random(n + 1) < 0.9
    return interests, mask, items, history, targets, retrievable


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), exclude=st.booleans())
def test_ranks_equal_the_oracle(seed, exclude):
    interests, mask, items, history, targets, retrievable = _case(seed)
    ranks = ranking.target_ranks(
        interests, mask, items, history, targets, exclude, tf.constant(retrievable)
    )
    expected = _oracle(interests, mask, items, history, targets, exclude, retrievable)
    np.testing.assert_array_equal(ranks, expected)


def test_own_items_gain_on_the_interests():
    """Item 3 gains enough to pass item 2, and nothing while the history is excluded."""
    items = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    own = ranking.OwnBonus(tf.constant([[3, 0]]), tf.constant([[0.6, 0.0]]))
    given_ = (tf.constant([[[0.0, 1.0]]]), tf.constant([[True]]), items, tf.constant([[3]]))
    targets = tf.constant([[3, 2, 1]])
    assert ranking.target_ranks(*given_, targets, False).numpy().tolist() == [[2, 1, 3]]
    assert ranking.target_ranks(*given_, targets, False, own=own).numpy().tolist() == [[1, 2, 3]]
    assert ranking.target_ranks(*given_, targets, True, own=own).numpy().tolist() == [[0, 1, 2]]
    found, scores = ranking.top_k(*given_, 2, False, own=own)
    assert found.numpy().tolist() == [[3, 2]]
    np.testing.assert_allclose(scores, [[1.1, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("block_floats", [1, 150, 2**24])
def test_blocks_do_not_change_the_result(monkeypatch, block_floats):
    monkeypatch.setattr(ranking, "_BLOCK_FLOATS", block_floats)
    interests, mask, items, history, targets, retrievable = _case(3)
    ranks = ranking.target_ranks.python_function(
        tf.constant(interests), mask, items, history, targets, True, tf.constant(retrievable)
    )
    expected = _oracle(interests, mask, items, history, targets, True, retrievable)
    np.testing.assert_array_equal(ranks, expected)
    best, _ = ranking.top_k.python_function(
        tf.constant(interests), mask, items, history, 4, True, tf.constant(retrievable)
    )
    for u in range(len(interests)):
        single = np.array([[i] for i in range(1, 20)]).T
        by_rank = _oracle(
            interests[u : u + 1],
            mask[u : u + 1],
            items,
            history[u : u + 1],
            single,
            True,
            retrievable,
        )[0]
        assert [by_rank[i - 1] for i in best[u].numpy() if i > 0] == [1, 2, 3, 4]


def test_top_k_is_padded_where_candidates_run_out():
    items = tf.constant([[0.0], [1.0], [2.0], [3.0]])
    best, scores = ranking.top_k(
        tf.constant([[[1.0]]]), tf.constant([[True]]), items, tf.constant([[3, 0]]), 9, True
    )
    np.testing.assert_array_equal(best, [[2, 1, 0]])
    np.testing.assert_array_equal(scores, [[2.0, 1.0, -np.inf]])


def test_inactive_interests_are_not_searched():
    interests = tf.constant([[[1.0, 0.0], [0.0, 9.0]]])
    items = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    for mask, expected in (([True, False], [[1, 2]]), ([True, True], [[2, 1]])):
        best, _ = ranking.top_k(interests, tf.constant([mask]), items, tf.constant([[0]]), 2, False)
        np.testing.assert_array_equal(best, expected)


def test_counted_targets():
    targets = tf.constant([[7, 7, 0, 0, 3, -1]])
    history = tf.constant([[3, 8, 0]])
    np.testing.assert_array_equal(
        ranking.counted_targets(targets, history, False),
        [[True, False, True, True, True, False]],
    )
    np.testing.assert_array_equal(
        ranking.counted_targets(targets, history, True),
        [[True, False, True, True, False, False]],
    )


def test_blocks_stay_small_whatever_the_catalogue():
    assert int(ranking.users_per_block(tf.constant(1_000), tf.constant(4))) == 2**24 // 4_000
    # The product is above int32, where it would turn negative.
    assert int(ranking.users_per_block(tf.constant(1_000_001), tf.constant(3_000))) == 1
    assert int(ranking.users_per_block(tf.constant(0), tf.constant(0))) == 2**24
