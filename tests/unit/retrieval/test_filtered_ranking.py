"""Filters by selectivity: every way against NumPy, and the borders between them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.categories import category_table
from retrieval.filter_costs import FilterCosts, choose_limits
from retrieval.filtered_ranking import FilteredRanking, Limits, depth_of, first_depths
from retrieval.filters import ItemCategories, Selection
from retrieval.inverted_lists import inverted_lists
from retrieval.requests import Request
from retrieval.scann_search import ScannSearch, ScannSettings
from retrieval.search import Candidates, ExactSearch
from tests.synthetic_tower import unit_vectors

_R, _DIM, _K, _V = 600, 8, 3, 12
_NAMES = [f"c{i}" for i in range(_V)]


def _random_categories(generator, num_items):
    """None to three categories for each item; the first ones have most items."""
    weights = 0.7 ** np.arange(_V)
    weights /= weights.sum()
    sizes = generator.integers(0, 4, num_items)
    return [
        [f"c{c}" for c in generator.choice(_V, size, replace=False, p=weights)] for size in sizes
    ]


def _items(categories):
    table = category_table([[name.encode() for name in names] for names in categories])
    return ItemCategories(
        tf.Variable(table.names.tolist()), tf.Variable(table.items), np.arange(_R, dtype=np.int32)
    )


_GENERATOR = np.random.default_rng(3)
_CATEGORIES = _random_categories(_GENERATOR, _R)
_VECTORS = unit_vectors(_R, _DIM)
_ITEMS = _items(_CATEGORIES)
_SEARCHES = {
    "exact": ExactSearch(tf.Variable(_VECTORS)),
    "hashes": ScannSearch(tf.Variable(_VECTORS), 0, ScannSettings(1, _R), 20),
    "tree": ScannSearch(tf.Variable(_VECTORS), 8, ScannSettings(8, _R), 20),
}
# Of each way, limits that leave no other.
_WAYS = {
    "lists": (np.inf, np.inf, 0.0, 0),
    "approximate, then lists": (0.0, np.inf, 0.0, _R),
    "approximate, then everything": (0.0, 0.0, 0.0, _R),
    "everything": (0.0, 0.0, 0.0, 0),
    "as it comes": (60.0, 200.0, 0.1, 300),
}


def _allowed(allow, deny, categories=_CATEGORIES):
    return np.array(
        [
            (not allow or bool(set(names) & set(allow))) and not set(names) & set(deny)
            for names in categories
        ]
    )


def _padded(rows, fill):
    width = max(1, *map(len, rows))
    return [[*row, *[fill] * (width - len(row))] for row in rows]


class _Ranker:
    """Calls one traced ranking with Python lists."""

    def __init__(self, search):
        self.limits = Limits(_R)
        self._ranking = FilteredRanking(search, self.limits)
        specs = [
            ([None, _K, _DIM], tf.float32), ([None, _K], tf.bool), ([None, None], tf.int32),
            ([None], tf.int32), ([None, None], tf.string), ([None, None], tf.string),
        ]  # fmt: skip
        self._call = tf.function(
            self._rank, input_signature=[tf.TensorSpec(*spec) for spec in specs], autograph=False
        )

    def _rank(self, interests, mask, excluded, k, allow, deny):
        points = _ITEMS.points(allow, deny)
        selection = Selection([_ITEMS], [points], _R)
        request = Request(interests, mask, excluded, k)
        return self._ranking.rank(request, selection, tf.reduce_max(k))

    def __call__(self, people):
        excluded = _padded([person["excluded"] for person in people], -1)
        found = self._call(
            tf.constant(np.stack([person["interests"] for person in people])),
            tf.constant(np.stack([person["mask"] for person in people])),
            tf.constant(excluded, tf.int32),
            tf.constant([person["k"] for person in people]),
            tf.constant(_padded([person["allow"] for person in people], "")),
            tf.constant(_padded([person["deny"] for person in people], "")),
        )
        return found.positions.numpy(), found.scores.numpy()


_RANKERS = {name: _Ranker(search) for name, search in _SEARCHES.items()}


def _person(generator):
    mask = generator.random(_K) < 0.7
    names = [*_NAMES, "unknown"]
    return {
        "interests": unit_vectors(_K, _DIM, seed=int(generator.integers(1 << 30))),
        "mask": mask if mask.any() else np.ones(_K, bool),
        "excluded": generator.integers(0, _R, generator.integers(0, 30)).tolist(),
        "k": int(generator.integers(1, 40)),
        "allow": generator.choice(names, generator.choice([0, 1, 4]), False).tolist(),
        "deny": generator.choice(names, generator.choice([0, 1, 4, 11]), False).tolist(),
    }


def _expected(person):
    """NumPy oracle: positions and scores, best first."""
    scores = (_VECTORS @ person["interests"][person["mask"]].T).max(axis=1)
    allowed = _allowed(person["allow"], person["deny"])
    allowed[person["excluded"]] = False
    order = [i for i in np.argsort(-scores, kind="stable") if allowed[i]][: person["k"]]
    return order, scores[order]


def _check(people, positions, scores):
    for row, person in enumerate(people):
        order, best = _expected(person)
        found = [i for i in positions[row] if i >= 0]
        np.testing.assert_allclose(scores[row, : len(best)], best, atol=1e-5)
        assert set(found) == set(order)
        assert (positions[row, len(order) :] == -1).all()
        assert np.isneginf(scores[row, len(order) :]).all()


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("kind", _SEARCHES)
def test_every_way_gives_the_answer_of_numpy(kind, way):
    ranker = _RANKERS[kind]
    ranker.limits.use(*_WAYS[way])
    generator = np.random.default_rng(11)
    for size in (1, 7, 32):
        people = [_person(generator) for _ in range(size)]
        _check(people, *ranker(people))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    size=st.integers(1, 6),
    limits=st.tuples(
        st.sampled_from([0.0, 30.0, 150.0, 1e9]),
        st.sampled_from([0.0, 100.0, 1e9]),
        st.sampled_from([0.0, 0.1, 2.0]),
        st.sampled_from([0, 50, 200, _R]),
    ),
)
def test_any_limits_give_the_answer_of_numpy(seed, size, limits):
    ranker = _RANKERS["tree"]
    ranker.limits.use(*limits)
    generator = np.random.default_rng(seed)
    people = [_person(generator) for _ in range(size)]
    _check(people, *ranker(people))


@pytest.fixture(scope="module")
def coarse():
    """Few leaves and candidates: what is found depends on how deep the search goes."""
    return _Ranker(ScannSearch(tf.Variable(_VECTORS), 30, ScannSettings(2, 30), 20))


@pytest.mark.parametrize("way", _WAYS)
def test_a_row_is_answered_alike_alone_and_in_a_batch(coarse, way):
    ranker = coarse
    ranker.limits.use(*_WAYS[way])
    generator = np.random.default_rng(17)
    people = [_person(generator) for _ in range(12)]
    positions, scores = ranker(people)
    for row, person in enumerate(people):
        alone, alone_scores = ranker([person])
        k = person["k"]
        np.testing.assert_array_equal(positions[row, :k], alone[0])
        np.testing.assert_allclose(scores[row, :k], alone_scores[0], atol=1e-6)


class _Even(tf.Module):
    """An approximate search that finds items of even positions only, and notes how deep."""

    def __init__(self, thorough=True):
        super().__init__()
        self.vectors = tf.Variable(_VECTORS)
        self.depths = tf.Variable(tf.zeros([0], tf.int32), shape=[None], trainable=False)
        self._exact = ExactSearch(self.vectors)
        self._thorough = thorough

    def candidates(self, interests, mask, depth, k):
        self.depths.assign(tf.concat([self.depths, [depth]], axis=0))

        def is_even(start, size):
            return (tf.range(start, start + size) % 2 == 0)[tf.newaxis]

        rows, columns = tf.unstack(tf.shape(mask))
        # Each interest has a list of its own, as of a real one.
        found = self._exact.candidates(
            tf.reshape(interests, [-1, 1, _DIM]), tf.reshape(mask, [-1, 1]), depth, k, is_even
        )
        return Candidates(*(tf.reshape(part, [rows, columns * depth]) for part in found))

    def is_thorough(self, k):
        return tf.constant(self._thorough)

    def describe(self):
        return {}


def _person_of(allow, k=10):
    return {
        "interests": unit_vectors(_K, _DIM, seed=4),
        "mask": np.ones(_K, bool),
        "excluded": [],
        "k": k,
        "allow": allow,
        "deny": [],
    }


def _sizes():
    return {name: int(_allowed([name], []).sum()) for name in _NAMES}


def test_the_border_decides_between_lists_and_approximate_search():
    sizes = _sizes()
    border = sorted(sizes.values())[_V // 2]
    ranker = _Ranker(_Even())
    ranker.limits.use(border, np.inf, 0.0, _R)
    people = [_person_of([name]) for name in _NAMES if sizes[name] > 45]
    people += [_person_of([name]) for name in _NAMES if 10 < sizes[name] <= border]
    narrow = [sizes[person["allow"][0]] <= border for person in people]
    assert set(narrow) == {True, False}
    positions, _ = ranker(people)
    for row, person in enumerate(people):
        order, _ = _expected(person)
        assert any(i % 2 for i in order)  # the fake search cannot find these
        assert (set(order) == set(positions[row])) == narrow[row]
    # The entries of the lists count as well, if they are looked at and that costs anything.
    ranker.limits.use(border, np.inf, 1.0, _R)
    middle = next(p for p, n in zip(people, narrow, strict=True)
                  if n and sizes[p["allow"][0]] > border / 2)  # fmt: skip
    assert any(i % 2 for i in ranker([middle])[0][0])
    denying = {**middle, "deny": [min(sizes, key=sizes.get)]}
    assert not any(i % 2 for i in ranker([denying])[0][0])


def test_the_search_goes_deeper_until_nothing_better_can_be_missing():
    """The person's nearest items are all forbidden: the first depth cannot do."""
    scores = (_VECTORS @ unit_vectors(_K, _DIM, seed=4).T).max(axis=1)
    near = np.argsort(-scores)[:250]
    categories = [["near"] if i in set(near) else ["far"] for i in range(_R)]
    items = _items(categories)
    for thorough in (True, False):
        search = _Even(thorough)
        limits = Limits(_R)
        limits.use(0.0, np.inf, 0.0, _R)
        ranking = FilteredRanking(search, limits)
        person = _person_of([])
        points = items.points(tf.constant([["far"]]), tf.constant([[""]]))
        request = Request(
            tf.constant(person["interests"][np.newaxis]),
            tf.constant([[True] * _K]), tf.constant([[-1]]), tf.constant([10]),
        )  # fmt: skip
        found = ranking.rank(request, Selection([items], [points], _R), tf.constant(10))
        allowed = (np.arange(_R) % 2 == 0) & ~np.isin(np.arange(_R), near)
        best = [i for i in np.argsort(-scores) if allowed[i]][:10]
        depths = search.depths.numpy().tolist()
        assert len(depths) > 1
        assert depths == sorted(depths)
        if thorough or max(depths) >= 250:
            assert found.positions.numpy()[0].tolist() == best
    # A search that is to be trusted for as many items as it was told goes deeper.
    assert depths[-1] >= np.searchsorted(np.sort(-scores), -scores[best[-1]])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 40), st.integers(1, 3))
def test_inverted_lists_hold_every_item_of_a_value(seed, num_items, width):
    generator = np.random.default_rng(seed)
    values = np.zeros([num_items, width], np.int32)
    for row in values:
        some = generator.choice(np.arange(1, 6), generator.integers(0, width + 1), False)
        row[: len(some)] = some
    lists = inverted_lists(values, 7)
    for value in range(8):
        found = lists.positions[lists.offsets[value] : lists.offsets[value + 1]].tolist()
        wanted = (values == value).any(axis=1) if value else ~(values > 0).any(axis=1)
        assert found == np.flatnonzero(wanted).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_selection_lists_what_it_allows_once(seed):
    generator = np.random.default_rng(seed)
    person = _person(generator)
    points = _ITEMS.points(
        tf.constant([[*person["allow"], ""]]), tf.constant([[*person["deny"], ""]])
    )
    selection = Selection([_ITEMS], [points], _R)
    allowed = np.flatnonzero(_allowed(person["allow"], person["deny"]))
    assert sorted(selection.listed(tf.constant(0)).numpy().tolist()) == allowed.tolist()
    assert selection.num_listed().numpy()[0] >= allowed.size
    # The sample is all of the items here.
    assert selection.num_allowed(tf.range(_R)).numpy()[0] == pytest.approx(allowed.size)
    everywhere = selection.allows_block(tf.constant(0), tf.constant(_R)).numpy()[0]
    assert np.flatnonzero(everywhere).tolist() == allowed.tolist()


@pytest.mark.parametrize(
    ("allow", "deny", "looked_at"),
    [
        (["c0"], [], False),  # the list of c0
        (["c0", "c1"], [], True),  # some items have both
        (["c0"], ["c1"], True),
        ([], ["c0"], True),
    ],
)
def test_entries_are_looked_at_if_the_list_does_not_say_all(allow, deny, looked_at):
    points = _ITEMS.points(tf.constant([[*allow, ""]]), tf.constant([[*deny, ""]]))
    selection = Selection([_ITEMS], [points], _R)
    assert (selection.num_looked_at().numpy()[0] > 0) == looked_at


def test_depths_follow_the_share_that_is_allowed():
    numbers = first_depths(
        tf.fill([4], 100), tf.constant([1000.0, 500.0, 100.0, 0.0]), tf.constant(1000)
    )
    depths = depth_of(numbers).numpy()
    # 100; 100 and three deviations of 7.1, twice; and so on; rounded up to the next depth.
    least = np.array([100, 2 * (100 + 3 * 50**0.5), 10 * (100 + 3 * 90**0.5)])
    assert (depths[:3] >= least).all()
    assert (depths[:3] <= least * 2**0.5 + 1).all()
    assert depths[3] >= 100_000


def test_limits_follow_from_the_costs():
    costs = FilterCosts(
        list_ms=0.5, item_ms=1e-4, entry_ms=1e-5, exact_ms=50.0,
        depth_ms={100: 1.0, 400: 2.0, 1600: 3.0, 6400: 9.0, 25600: 40.0},
    )  # fmt: skip
    limits = choose_limits(costs, 100, 1_000_000)
    assert limits.entry_cost == pytest.approx(0.1)
    # Half of 50 ms lies between 9 and 40 ms.
    assert limits.deepest == pytest.approx(6400 + (25.0 - 9.0) / 31.0 * 19200, abs=1)
    # At the border both take the same time: a list of n items 0.5 + n * 1.1e-4 ms.
    size = limits.narrow / 1.1
    depth = depth_of(first_depths(tf.constant([100]), tf.constant([size]), tf.constant(10**6)))
    broad = np.interp(depth[0], list(costs.depth_ms), list(costs.depth_ms.values()))
    assert 0.5 + size * 1.1e-4 <= broad
    assert 0.5 + size * 1.06 * 1.1e-4 > broad * 0.8
    # (50 - 0.5) / 1.1e-4 items, in work.
    assert limits.listed == pytest.approx(49.5 / 1e-4, rel=0.06)


def test_limits_of_an_exact_search():
    costs = FilterCosts(list_ms=0.5, item_ms=1e-4, entry_ms=0.0, exact_ms=10.5, depth_ms={})
    limits = choose_limits(costs, 100, 1_000_000)
    assert limits.narrow == limits.listed == pytest.approx(100_000, rel=0.06)
