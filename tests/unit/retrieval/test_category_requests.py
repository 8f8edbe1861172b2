"""Diversity and category lists through the served signature, against a NumPy oracle."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from retrieval.config import IndexConfig
from tests.synthetic_bundle import save_bundle
from tests.synthetic_tower import Tower, unit_vectors

_NUM_ITEMS, _DIM, _OVER_FETCH, _MAX_K = 120, 8, 3, 200
_NO_VECTOR = 57  # of category c0
_NO_CATEGORY = (11, 30)
_IDS = [f"item{i}" for i in range(_NUM_ITEMS)]
_VECTORS = unit_vectors(_NUM_ITEMS, _DIM)
_VECTORS[_NO_VECTOR] = 0.0
_COUNTS = np.roll(np.arange(_NUM_ITEMS), 7)
_KINDS = ("exact", "scann")


def _categories_of(item):
    """One of ten main categories, for a third of the items a second one; "rare" has two items."""
    if item in _NO_CATEGORY:
        return []
    names = [f"c{item * 7 % 10 if item % 5 else 0}"]
    if item % 3 == 0:
        names.append(f"s{item % 4}")
    if item in (40, 80):
        names.append("rare")
    return names


_CATEGORIES = [_categories_of(i) for i in range(_NUM_ITEMS)]
_HISTORIES = [
    ["item20"],
    ["item20", "item21", "item3", "item4"],
    ["item30", "never seen", "", "item31"],
    [],
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    Tower(_IDS, _VECTORS, _COUNTS, categories=_CATEGORIES).save(root / "trained")
    config = IndexConfig(default_k=4, max_k=_MAX_K, over_fetch=_OVER_FETCH)
    for kind in _KINDS:
        save_bundle(root / "trained", root / kind, kind, config)
    return root


@pytest.fixture(scope="module")
def bundles(saved):
    return {kind: tf.saved_model.load(str(saved / kind)) for kind in _KINDS}


@pytest.fixture(params=_KINDS)
def signatures(request, bundles):
    return bundles[request.param].signatures


@pytest.fixture
def serve(signatures):
    """Calls ``serving_default``; returns ids and scores as lists."""

    def call(history, k=5, exclude=(("",),), diversity=0.0, allow=(("",),), deny=(("",),)):
        width = max([1, *map(len, history)])
        answer = signatures["serving_default"](
            history=tf.constant([[*row, *[""] * (width - len(row))] for row in history]),
            k=tf.constant(k),
            exclude=tf.constant(exclude),
            exclude_history=tf.constant(True),
            diversity=tf.constant(diversity),
            allow_categories=tf.constant(allow),
            deny_categories=tf.constant(deny),
            user_taste=tf.constant([""]),
        )
        ids = [[item.decode() for item in row] for row in answer["item_ids"].numpy()]
        return ids, answer["scores"].numpy()

    return call


def _scores(history):
    """Every item's score, [N]; the count for somebody without history."""
    rows = [_IDS.index(item) for item in history if item in _IDS]
    if not rows:
        return _COUNTS.astype(np.float32)
    half = len(rows) // 2
    interests = [_VECTORS[rows[half:]].mean(axis=0)]
    if half:
        interests.append(_VECTORS[rows[:half]].mean(axis=0))
    return np.max([_VECTORS @ (u / np.linalg.norm(u)) for u in interests], axis=0)


def allowed_items(allow=(), deny=()):
    return {
        i
        for i, names in enumerate(_CATEGORIES)
        if (not allow or set(names) & set(allow)) and not set(names) & set(deny)
    }


def expected(history, k, exclude=(), diversity=0.0, allow=(), deny=()):
    """NumPy oracle of one row's ids."""
    scores = _scores(history)
    hidden = {_NO_VECTOR, *(_IDS.index(i) for i in (*history, *exclude) if i in _IDS)}
    left = allowed_items(allow, deny) - hidden
    order = [int(i) for i in np.argsort(-scores, kind="stable") if i in left]
    if not diversity:
        return [_IDS[i] for i in order[:k]]
    scale = 1.0 if set(history) & set(_IDS) else 1.0 / _COUNTS.max()
    pool, chosen = order[: k * _OVER_FETCH], []
    while pool and len(chosen) < k:

        def gain(item):
            mine = set(_CATEGORIES[item])
            others = (set(_CATEGORIES[other]) for other in chosen)
            different = sum(bool(mine and its and not mine & its) for its in others)
            return scores[item] * scale + diversity * different

        best = max(pool, key=gain)  # the first of equal ones
        pool.remove(best)
        chosen.append(best)
    return [_IDS[i] for i in chosen]


def _num_categories(ids):
    return len({_CATEGORIES[_IDS.index(item)][0] for item in ids if item})


def test_no_wish_changes_nothing(serve):
    ids, _ = serve(_HISTORIES, k=9)
    assert ids == [expected(history, 9) for history in _HISTORIES]


@pytest.mark.parametrize("diversity", [0.05, 0.3, 1.0])
def test_diversity_equals_the_oracle(serve, diversity):
    ids, scores = serve(_HISTORIES, k=8, diversity=diversity)
    for row, history in enumerate(_HISTORIES):
        assert ids[row] == expected(history, 8, diversity=diversity)
        own = _scores(history)[[_IDS.index(item) for item in ids[row]]]
        np.testing.assert_allclose(scores[row], own, atol=1e-5)


def test_each_row_has_its_own_diversity_and_its_own_pool(serve):
    diversity, ks = [0.0, 1.0, 0.2, 1.0], [4, 9, 1, 6]
    ids, _ = serve(_HISTORIES, k=ks, diversity=diversity)
    for row, (history, k) in enumerate(zip(_HISTORIES, ks, strict=True)):
        want = expected(history, k, diversity=diversity[row])
        assert ids[row] == want + [""] * (9 - k)


def test_more_diversity_brings_more_categories(serve):
    counts = [
        [_num_categories(row) for row in serve(_HISTORIES, k=8, diversity=weight)[0]]
        for weight in (0.0, 0.1, 1.0)
    ]
    totals = np.sum(counts, axis=1).tolist()
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]


def test_excluded_items_stay_out_of_a_diverse_answer(serve):
    first = expected(_HISTORIES[1], 4, diversity=1.0)
    ids, _ = serve([_HISTORIES[1]], k=8, exclude=[first], diversity=1.0)
    assert ids[0] == expected(_HISTORIES[1], 8, exclude=first, diversity=1.0)
    assert not set(ids[0]) & {*first, *_HISTORIES[1]}


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_diversity_out_of_range_is_refused(serve, diversity):
    with pytest.raises(tf.errors.InvalidArgumentError, match="diversity must be from 0 to 1"):
        serve([["item20"]], diversity=diversity)


@pytest.mark.parametrize(
    ("allow", "deny"),
    [
        (["c1"], []),
        (["c1", "s3", "unknown"], []),
        ([], ["c0"]),
        ([], ["c0", "c1", "c2", "unknown"]),
        (["c3", "c4", "s0"], ["c4"]),
        (["rare"], []),
        (["rare"], ["rare"]),
        (["unknown"], []),
    ],
)
@pytest.mark.parametrize("k", [3, 30, _MAX_K])
def test_lists_never_cost_places(serve, allow, deny, k):
    """Always min(k, what is left), all of it allowed, in the exact order."""
    ids, _ = serve(
        _HISTORIES, k=k, exclude=[["item50", "never seen"]], allow=[allow or [""]],
        deny=[deny or [""]],
    )  # fmt: skip
    for row, history in enumerate(_HISTORIES):
        want = expected(history, k, exclude=["item50"], allow=allow, deny=deny)
        assert ids[row] == want + [""] * (k - len(want))


def test_each_row_has_its_own_lists(serve):
    allow = [["c1", ""], ["", ""], ["s1", "c2"], ["", "c3"]]
    deny = [[""], ["c2"], ["c2"], [""]]
    ids, _ = serve(_HISTORIES, k=6, allow=allow, deny=deny)
    for row, history in enumerate(_HISTORIES):
        kept = [name for name in allow[row] if name], [name for name in deny[row] if name]
        want = expected(history, 6, allow=kept[0], deny=kept[1])
        assert ids[row] == want + [""] * (6 - len(want))


def test_items_without_category_need_to_be_free_of_an_allow_list(serve):
    ids, _ = serve([["item20"]], k=_MAX_K, deny=[["c1"]])
    assert {"item11", "item30"} <= set(ids[0])
    everything = [[f"c{i}" for i in range(10)]]
    ids, _ = serve([["item20"]], k=_MAX_K, allow=everything)
    assert not {"item11", "item30"} & set(ids[0])


@pytest.mark.parametrize("diversity", [0.2, 1.0])
def test_diversity_among_what_the_lists_leave(serve, diversity):
    lists = {"allow": ["c1", "c2", "c3", "s0"], "deny": ["c2"]}
    ids, _ = serve(
        _HISTORIES, k=7, diversity=diversity, allow=[lists["allow"]], deny=[lists["deny"]]
    )
    for row, history in enumerate(_HISTORIES):
        assert ids[row] == expected(history, 7, diversity=diversity, **lists)


def test_categories_of_items_and_all_categories(signatures):
    answer = signatures["item_categories"](items=tf.constant(["item40", "never seen", "item11"]))
    assert [[n for n in row if n] for row in answer["categories"].numpy().tolist()] == [
        [b"c0", b"rare"], [], [],
    ]  # fmt: skip
    assert answer["known"].numpy().tolist() == [True, False, True]
    counts = {}
    for names in _CATEGORIES:
        for name in names:
            counts[name.encode()] = counts.get(name.encode(), 0) + 1
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    for limit, want in ((1000, ordered), (3, ordered[:3]), (-1, [])):
        found = signatures["list_categories"](limit=tf.constant(limit))
        pairs = zip(found["categories"].numpy(), found["item_counts"].numpy(), strict=True)
        assert list(pairs) == want


def test_a_catalogue_without_categories_has_no_such_inputs(tmp_path):
    Tower(_IDS, _VECTORS, _COUNTS).save(tmp_path / "trained")
    save_bundle(tmp_path / "trained", tmp_path / "exact", "exact", IndexConfig())
    signatures = tf.saved_model.load(str(tmp_path / "exact")).signatures
    _, inputs = signatures["serving_default"].structured_input_signature
    assert set(inputs) == {"history", "k", "exclude", "exclude_history", "user_taste"}
    assert not {"item_categories", "list_categories"} & set(signatures)


def test_the_exact_kind_needs_tensorflow_ops_only(saved):
    """A stock TF Serving has no ops but TensorFlow's own."""
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((saved / "exact" / "saved_model.pb").read_bytes())
    functions = model.meta_graphs[0].graph_def.library.function
    ops = {node.op for function in functions for node in function.node_def}
    assert "While" in ops or "StatelessWhile" in ops  # the greedy choice is in the graph
    assert not {op for op in ops if op.startswith("Scann") or op.startswith("Addons")}
