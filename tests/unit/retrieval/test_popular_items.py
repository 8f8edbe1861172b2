"""Popular items against a loop over all of them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.categories import category_table
from retrieval import popular_items
from retrieval.filters import ItemCategories, Selection
from retrieval.fixed_items import FixedItems
from retrieval.popular_items import PopularItems

_R = 50
_CATEGORIES = [[f"c{i % 3}"] if i % 5 else [] for i in range(_R)]


def _best(counts, allowed, excluded, wanted):
    """The positions of the most frequent allowed items, of equal ones the first."""
    left = [i for i in range(len(counts)) if allowed[i] and i not in excluded]
    return sorted(left, key=lambda i: (-counts[i], i))[:wanted]


@pytest.fixture(params=[1, 7, 1000])
def step(request, monkeypatch):
    """Items looked at in one step."""
    monkeypatch.setattr(popular_items, "_ITEMS_PER_STEP", request.param)


_rows = st.lists(
    st.tuples(st.integers(1, 60), st.lists(st.integers(-1, _R - 1), min_size=4, max_size=4)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), _rows)
def test_everything_is_allowed(seed, rows):
    # Few different counts, so that many are equal.
    counts = np.random.default_rng(seed).integers(0, 6, _R)
    wanted, excluded = zip(*rows, strict=True)
    found = PopularItems(counts, FixedItems(_R)).best(
        tf.constant(wanted), tf.constant(excluded), tf.constant(max(wanted))
    )
    for row, (k, left_out) in enumerate(rows):
        want = _best(counts, [True] * _R, left_out, k)
        assert found.positions.numpy()[row, : len(want)].tolist() == want
        np.testing.assert_array_equal(found.scores.numpy()[row, : len(want)], counts[want])
        if k == max(wanted):
            assert (found.positions.numpy()[row, len(want) :] == -1).all()


def test_filtered_items_are_looked_for_until_there_are_enough(step):
    table = category_table(_CATEGORIES)
    items = ItemCategories(
        tf.Variable(table.names), tf.Variable(table.items), np.arange(_R, dtype=np.int32)
    )
    counts = np.random.default_rng(3).integers(0, 9, _R)
    allow = [["c0", "c2"], ["c1", ""], ["", ""], ["unknown", ""]]
    deny = [["c2"], [""], ["c0"], [""]]
    excluded = [[4, -1], [-1, -1], [int(np.argmax(counts)), 7], [-1, -1]]
    wanted = [3, 30, 1, 2]
    points = items.points(tf.constant(allow), tf.constant(deny))
    found = PopularItems(counts, FixedItems(_R)).best(
        tf.constant(wanted),
        tf.constant(excluded),
        tf.constant(30),
        Selection([items], [points], _R),
    )
    for row, k in enumerate(wanted):
        names = {name for name in allow[row] if name}
        allowed = [
            (not names or bool(names & set(own))) and not set(deny[row]) & set(own)
            for own in _CATEGORIES
        ]
        want = _best(counts, allowed, excluded[row], k)
        assert found.positions.numpy()[row, : len(want)].tolist() == want
    assert (found.positions.numpy()[3] == -1).all()
