"""Requests that filter by the side features of index.filters, against a NumPy oracle."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.config import IndexConfig
from retrieval.item_numbers import ItemNumbers
from tests.synthetic_bundle import save_bundle
from tests.synthetic_tower import Tower, unit_vectors

_N, _DIM = 300, 8
_IDS = [f"item{i}" for i in range(_N)]
_VECTORS = unit_vectors(_N, _DIM)
_VECTORS[7] = 0.0  # cannot be found: positions differ from rows
_COUNTS = np.random.default_rng(1).permutation(_N)
_CATEGORIES = [[f"c{i % 3}"] for i in range(_N)]
_BRANDS = [[] if i % 11 == 0 else [f"b{i % 7}"] + ["big"] * (i % 5 == 0) for i in range(_N)]
_PRICES = [[] if i % 13 == 0 else [i * 7 % 100 / 4] for i in range(_N)]
_SIZES = [[i % 10, i % 10 + 2.0] if i % 2 else [i % 10] for i in range(_N)]
_FILTERS = {"brand": _BRANDS, "price": _PRICES, "size": _SIZES}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    found = {}
    for name, categories in (("with", _CATEGORIES), ("without", None)):
        Tower(_IDS, _VECTORS, _COUNTS, None, categories, _FILTERS).save(root / f"trained-{name}")
        kind = "scann" if categories else "exact"
        save_bundle(root / f"trained-{name}", root / name, kind, IndexConfig(max_k=_N))
        found[name] = tf.saved_model.load(str(root / name))
    return found


@pytest.fixture(params=["with", "without"])
def serve(request, bundles):
    """Calls ``serving_default`` with some inputs; the others ask for nothing."""
    function = bundles[request.param].signatures["serving_default"]
    _, specs = function.structured_input_signature

    def call(history, k=10, **inputs):
        neutral = {
            name: [[""]] if spec.shape.rank == 2 else [""]
            for name, spec in specs.items()
            if spec.dtype == tf.string
        }
        given = {"diversity": 0.0} if "diversity" in specs else {}
        given |= neutral | {"history": history, "k": k, "exclude_history": True} | inputs
        assert set(given) == set(specs)
        answer = function(**{n: tf.constant(v, specs[n].dtype) for n, v in given.items()})
        return [[item.decode() for item in row if item] for row in answer["item_ids"].numpy()]

    return call


def _expected(history, k, allowed):
    rows = [_IDS.index(item) for item in history if item]
    scores = _VECTORS @ _VECTORS[rows[0]] if rows else _COUNTS
    left = [i for i in np.argsort(-scores, kind="stable") if i != 7 and i not in rows]
    return [_IDS[i] for i in left if allowed(i)][:k]


def _inside(numbers, least=-np.inf, most=np.inf):
    return any(least <= number <= most for number in numbers)


_ASKED = {
    "a brand": ({"allow_brand": [["b2"]]}, lambda i: "b2" in _BRANDS[i]),
    "two brands": ({"allow_brand": [["b2", "big"]]}, lambda i: {"b2", "big"} & {*_BRANDS[i]}),
    "no brand": ({"deny_brand": [["b1", "big"]]}, lambda i: not {"b1", "big"} & {*_BRANDS[i]}),
    "unknown brand": ({"allow_brand": [["never seen"]]}, lambda i: False),
    "cheap": ({"max_price": ["4.25"]}, lambda i: _inside(_PRICES[i], most=4.25)),
    "dear": ({"min_price": ["22.5"]}, lambda i: _inside(_PRICES[i], 22.5)),
    "between": (
        {"min_price": ["5"], "max_price": ["1e1"]}, lambda i: _inside(_PRICES[i], 5, 10),
    ),
    "impossible": ({"min_price": ["9"], "max_price": ["8"]}, lambda i: False),
    "two sizes": ({"min_size": ["3"], "max_size": ["4"]}, lambda i: _inside(_SIZES[i], 3, 4)),
    "all at once": (
        {"allow_brand": [["b1", "b2", "b3"]], "deny_brand": [["big"]], "min_price": ["2"],
         "max_size": ["5"]},
        lambda i: {"b1", "b2", "b3"} & {*_BRANDS[i]} and "big" not in _BRANDS[i]
        and _inside(_PRICES[i], 2) and _inside(_SIZES[i], most=5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", _ASKED)
def test_filters_equal_the_oracle(serve, asked):
    inputs, allowed = _ASKED[asked]
    histories = [["item20"], [""], ["item31"]]
    assert serve(histories, 15, **inputs) == [
        _expected(history, 15, allowed) for history in histories
    ]


def test_filters_and_category_lists_are_intersected(bundles):
    function = bundles["with"].signatures["serving_default"]
    answer = function(
        history=tf.constant([["item20"]]), k=tf.constant(_N), exclude=tf.constant([[""]]),
        exclude_history=tf.constant(True), diversity=tf.constant(0.0), user_taste=tf.constant([""]),
        allow_categories=tf.constant([["c1"]]), deny_categories=tf.constant([[""]]),
        allow_brand=tf.constant([[""]]), deny_brand=tf.constant([["big"]]),
        min_price=tf.constant([""]), max_price=tf.constant(["12"]),
        min_size=tf.constant([""]), max_size=tf.constant([""]),
    )  # fmt: skip
    found = [item.decode() for item in answer["item_ids"].numpy()[0] if item]
    assert found == _expected(
        ["item20"], _N,
        lambda i: i % 3 == 1 and "big" not in _BRANDS[i] and _inside(_PRICES[i], most=12),
    )  # fmt: skip


def test_each_row_has_its_own_bounds(serve):
    most = ["", "3", "20", "1000"]
    histories = [["item20"], ["item21"], [""], ["item23"]]
    found = serve(histories, _N, max_price=most)
    for row, bound in enumerate(most):
        # With a bound, only items that have a price.
        def allowed(i, bound=bound):
            return not bound or _inside(_PRICES[i], most=float(bound))

        assert found[row] == _expected(histories[row], _N, allowed)


@pytest.mark.parametrize("text", ["cheap", "nan", "1,5", "--3"])
def test_a_bound_that_is_no_number_is_refused(serve, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_price must be a number as text"):
        serve([["item20"]], max_price=[text])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=3, unique=True), min_size=1, max_size=30),
    st.integers(-1, 10),
    st.integers(-1, 10),
)
def test_numbers_within_bounds(numbers, least, most):
    width = max(1, *map(len, numbers))
    table = np.full([len(numbers), width], np.nan, np.float32)
    for row, some in enumerate(numbers):
        table[row, : len(some)] = sorted(some)
    feature = ItemNumbers(tf.Variable(table), np.arange(len(numbers), dtype=np.int32))
    condition = feature.bounds("n", tf.constant([str(least)]), tf.constant([str(most)]))
    inside = [i for i, some in enumerate(numbers) if _inside(some, least, most)]
    assert sorted(feature.listed(condition).numpy().tolist()) == inside
    assert feature.num_listed(condition).numpy()[0] == sum(
        least <= number <= most for some in numbers for number in some
    )
    accepted = feature.accepts(condition, feature.block(tf.constant(0), len(numbers)))
    assert np.flatnonzero(accepted.numpy()[0]).tolist() == inside
    everything = feature.bounds("n", tf.constant([""]), tf.constant([""]))
    assert not feature.is_used(everything).numpy()[0]
    assert feature.accepts(everything, feature.of(tf.range(len(numbers)))).numpy().all()
