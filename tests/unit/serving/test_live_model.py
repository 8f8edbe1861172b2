"""Changes of a log applied to a real bundle of each kind, against an oracle in NumPy."""

import json

import numpy as np
import pytest

from contract import live_catalogue as names
from contract.catalogue_changes import REMOVAL, Change, Upsert
from contract.change_log import SqliteChangeLog
from retrieval.config import IndexConfig
from serving import live_model
from serving.errors import ServingError
from serving.live_model import LiveModel
from serving.saved_model import SavedModel, session_config
from tests.synthetic_bundle import save_bundle
from tests.synthetic_tower import RepeatingTower, Tower, encoded, unit_vectors

_NUM_ITEMS, _DIM = 300, 8
_IDS = [f"item{i}" for i in range(_NUM_ITEMS)]
_VECTORS = unit_vectors(_NUM_ITEMS, _DIM)
_COUNTS = np.arange(_NUM_ITEMS, 0, -1)
_CATEGORIES = [["even" if i % 2 == 0 else "odd"] + ["third"] * (i % 3 == 0) for i in range(300)]


class Oracle:
    """The catalogue as plain dictionaries, searched by NumPy."""

    def __init__(self):
        self.items = {
            item: (_VECTORS[i], float(_COUNTS[i]), f"Title {i}", set(_CATEGORIES[i]))
            for i, item in enumerate(_IDS)
        }
        self.pushed = dict(self.items)
        self.hidden = {}

    def apply(self, item, change):
        self.items.pop(item, None)
        pushed = self.pushed.get(item)
        if not change.is_found:
            return
        vector, count, title, categories = pushed or (np.zeros(_DIM), 0.0, "", set())
        if change.features is not None:
            point = change.features.get("point")
            # The synthetic tower reads nothing else.
            vector = np.zeros(_DIM) if point is None else encoded(point, _DIM)
            categories = set(change.features.get("category", ()))
        if vector.any():
            title = title if change.title is None else change.title
            self.items[item] = vector, count, title, categories

    def best(self, history, k, allow=(), deny=()):
        rows = [_IDS.index(item) for item in history]
        half = len(rows) // 2
        interests = [_VECTORS[rows[half:]].mean(axis=0)]
        if half:
            interests.append(_VECTORS[rows[:half]].mean(axis=0))
        interests = [u / np.linalg.norm(u) for u in interests]
        scores = {
            item: max(float(vector @ u) for u in interests)
            for item, (vector, _, _, categories) in self.items.items()
            if item not in history
            and (not allow or categories & set(allow))
            and not categories & set(deny)
        }
        return sorted(scores, key=lambda item: -scores[item])[:k], scores

    def popular(self, k):
        counts = {item: entry[1] for item, entry in self.items.items()}
        return sorted(counts, key=lambda item: -counts[item])[:k]


@pytest.fixture(scope="module")
def bundle_dirs(tmp_path_factory):
    root = tmp_path_factory.mktemp("live")
    titles = [f"Title {i}" for i in range(_NUM_ITEMS)]
    Tower(_IDS, _VECTORS, _COUNTS, titles, _CATEGORIES).save(root / "tower")
    for kind in ("exact", "tree"):
        save_bundle(root / "tower", root / kind, kind, IndexConfig(live_catalogue=True))
    return root


@pytest.fixture
def kind():
    return "tree"


@pytest.fixture
def model(bundle_dirs, kind):
    loaded = SavedModel(bundle_dirs / kind, session_config(optimize=False))
    yield loaded
    loaded.close()


@pytest.fixture
def live(model, bundle_dirs, kind, log):
    return LiveModel(model, bundle_dirs / kind, log.identity)


@pytest.fixture
def log(tmp_path):
    opened = SqliteChangeLog(tmp_path / "log.sqlite")
    yield opened
    opened.close()


def ask(model, history, k=10, **options):
    """Asks ``serving_default``; returns the ids of each row, without padding, and the answer."""
    inputs = {
        "history": np.array(history, object),
        "k": np.array(k, np.int32),
        "exclude_history": np.array(options.pop("exclude_history", True)),
        **{name: np.array(value, object) for name, value in options.items()},
    }
    complete = model.complete_inputs("serving_default", inputs)
    answer = model.run("serving_default", complete, model.output_names("serving_default", ()))
    return [[item.decode() for item in row if item] for row in answer["item_ids"]], answer


def run(model, signature, **inputs):
    complete = model.complete_inputs(signature, inputs)
    return model.run(signature, complete, model.output_names(signature, ()))


def write(log, changes):
    """Writes whole changes, in place of what was."""
    log.append([(item, lambda _, change=change: change) for item, change in changes])


def point(value, *categories, title=None):
    return Change(title=title, features={"point": value, "category": categories})


@pytest.mark.parametrize("kind", ["exact", "tree"])
def test_random_changes_give_what_the_oracle_finds(model, live, log, monkeypatch):
    """Additions, changes, removals and returns, over many rounds, with the order of leaves."""
    monkeypatch.setattr(live_model, "_MAX_FRESH", 20)
    random = np.random.default_rng(3)
    oracle = Oracle()
    names = [*_IDS, *[f"new{i}" for i in range(80)]]
    for _ in range(6):
        changes = {}
        for item in random.choice(names, 40, replace=False).tolist():
            features = {"point": float(random.uniform(0, 6)), "category": ("even", "fresh")}
            changes[item] = [
                REMOVAL,
                Change(in_stock=False),
                Change(title="Renamed"),
                Change(),
                Change(features=features),
                Change(features={"category": ("odd",)}),
            ][random.integers(6)]
            oracle.apply(item, changes[item])
        write(log, changes.items())
        live.catch_up(log)
        histories = [random.choice(_IDS, 4, replace=False).tolist() for _ in range(5)]
        for options in ({}, {"allow": ["fresh"]}, {"deny": ["even"]}, {"allow": ["third", "odd"]}):
            lists = {
                f"{name}_categories": [values] * len(histories) for name, values in options.items()
            }
            found, answer = ask(model, histories, **lists)
            for row, history in enumerate(histories):
                expected, scores = oracle.best(history, 10, **options)
                assert found[row] == expected
                wanted = [scores[item] for item in expected]
                np.testing.assert_allclose(answer["scores"][row][: len(wanted)], wanted, atol=1e-5)
        cold, answer = ask(model, [[""]])
        assert cold[0] == oracle.popular(10)
        assert answer["interest_index"][0].tolist() == [-1] * 10


def test_filters_hold_for_the_new_values_of_changed_items(tmp_path, log):
    """Every item has a brand (two of them for some), and a price unless it is the tenth."""
    random = np.random.default_rng(4)
    brands = {item: {f"brand {i % 7}", *["other"] * (i % 5 == 0)} for i, item in enumerate(_IDS)}
    prices = {item: float(i) for i, item in enumerate(_IDS) if i % 10}
    filters = {
        "brand": [sorted(brands[item]) for item in _IDS],
        "price": [[prices[item]] if item in prices else [] for item in _IDS],
    }
    Tower(_IDS, _VECTORS, _COUNTS, filters=filters).save(tmp_path / "tower")
    save_bundle(tmp_path / "tower", tmp_path / "tree", "tree", IndexConfig(live_catalogue=True))
    model = SavedModel(tmp_path / "tree", session_config(optimize=False))
    live = LiveModel(model, tmp_path / "tree", log.identity)
    oracle = Oracle()
    pushed, seen = (dict(brands), dict(prices)), set()
    requests = [
        ({"allow_brand": ["brand 3", "new brand"]}, lambda b, p: b & {"brand 3", "new brand"}),
        ({"deny_brand": ["other", "brand 1"]}, lambda b, p: not b & {"other", "brand 1"}),
        ({"min_price": "40", "max_price": "60.5"}, lambda b, p: p and 40 <= p <= 60.5),
        ({"min_price": "500"}, lambda b, p: p and p >= 500),
        (
            {"allow_brand": ["other"], "max_price": "150"},
            lambda b, p: "other" in b and p and p <= 150,
        ),
    ]
    for _ in range(4):
        changes = {}
        for item in random.choice([*_IDS, *[f"new{i}" for i in range(40)]], 60, False).tolist():
            brand = [("new brand",), ("other", "brand 3"), ("brand 1",), ()][random.integers(4)]
            features = {"point": float(random.uniform(0, 6)), "brand": brand}
            price = [5.0, 50.0, 60.5, 777.0, None][random.integers(5)]
            features |= {} if price is None else {"price": price}
            kept = [REMOVAL, Change(in_stock=False), Change(title="Renamed"), Change()]
            changes[item] = [*kept, *[Change(features=features)] * 3][random.integers(7)]
            oracle.apply(item, changes[item])
            for now, before in zip((brands, prices), pushed, strict=True):
                now.pop(item, None)
                if item in before:
                    now[item] = before[item]
            if changes[item].features is not None:
                brands[item] = set(brand)
                prices.pop(item, None)
                prices |= {} if price is None else {item: price}
        write(log, changes.items())
        live.catch_up(log)
        for options, allows in requests:
            history = random.choice(_IDS, 4, replace=False).tolist()
            _, scores = oracle.best(history, 0)
            allowed = [i for i in scores if allows(brands.get(i, set()), prices.get(i))]
            expected = sorted(allowed, key=lambda item: -scores[item])[:10]
            given = {name: [value] for name, value in options.items()}
            assert ask(model, [history], **given)[0][0] == expected, options
            seen |= set(expected)
    assert seen & set(changes) - set(_IDS)  # an added item
    assert seen & set(changes) & set(_IDS)  # a changed one
    model.close()


def test_an_item_is_added_changed_and_removed(model, live, log):
    write(log, [("new", point(1.0, "fresh", title="A new one"))])
    live.catch_up(log)
    assert (live.num_slots, live.num_replaced, live.position) == (1, 0, 1)
    similar = run(model, "similar_items", items=_text(["new"]), k=np.array(3, np.int32))
    scores = _VECTORS @ encoded(1.0, _DIM)
    assert [_IDS.index(i.decode()) for i in similar["item_ids"][0]] == np.argsort(-scores)[
        :3
    ].tolist()
    assert run(model, "item_titles", items=_text(["new"]))["titles"].tolist() == [b"A new one"]
    described = run(model, "item_embeddings", items=_text(["new", "item1", "nowhere"]))
    assert described["known"].tolist() == [True, True, False]
    np.testing.assert_allclose(described["vectors"][0], encoded(1.0, _DIM), atol=1e-6)
    categories = run(model, "item_categories", items=_text(["new", "item1"]))["categories"]
    assert [[name for name in row if name] for row in categories.tolist()] == [[b"fresh"], [b"odd"]]
    listed = run(model, "list_items", offset=np.array(299, np.int32), limit=np.array(9, np.int32))
    assert listed["item_ids"].tolist() == [b"item299", b"new"]

    write(log, [("new", point(2.0, title="Another"))])
    live.catch_up(log)
    described = run(model, "item_embeddings", items=_text(["new"]))
    np.testing.assert_allclose(described["vectors"][0], encoded(2.0, _DIM), atol=1e-6)

    write(log, [("new", REMOVAL), ("item7", REMOVAL)])
    live.catch_up(log)
    assert (live.num_slots, live.num_replaced) == (0, 1)
    assert run(model, "item_embeddings", items=_text(["new"]))["known"].tolist() == [False]
    found, _ = ask(model, [["item8"]], k=300)
    assert set(found[0]) == {*_IDS} - {"item7", "item8"}


def test_a_new_item_can_be_excluded_and_is_in_no_answer_to_who_has_it(model, live, log):
    write(log, [("new", point(1.0))])
    live.catch_up(log)
    assert "new" in ask(model, [["item8"]], k=300)[0][0]
    assert "new" not in ask(model, [["item8"]], k=300, exclude=[["new"]])[0][0]
    assert "new" not in ask(model, [["item8", "new"]], k=300)[0][0]


def test_an_item_without_a_known_feature_is_counted_and_not_found(model, live, log):
    write(log, [("blank", Change(features={"category": ("even",)})), ("bare", Change(title="x"))])
    live.catch_up(log)
    assert live.without_vector == {"blank", "bare"}
    assert len(ask(model, [["item8"]], k=1000)[0][0]) == _NUM_ITEMS - 1
    write(log, [("blank", point(1.0))])
    live.catch_up(log)
    assert live.without_vector == {"bare"}


def test_what_was_changed_and_changed_back_is_answered_bit_for_bit(model, live, log):
    histories = [["item1", "item2"], ["item3", ""], ["", ""]]
    before = ask(model, histories)[1]
    live.catch_up(log)
    write(log, [("item1", REMOVAL)])
    live.catch_up(log)
    write(log, [("item1", Change())])
    live.catch_up(log)
    after = ask(model, histories)[1]
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_a_version_that_contains_the_changes_applies_only_what_came_later(model, live, log):
    write(log, [("item1", REMOVAL), ("item2", Change(in_stock=False))])
    live.folded = live.position = log.last()
    write(log, [("item3", REMOVAL)])
    live.catch_up(log)
    found = set(ask(model, [["item8"]], k=300)[0][0])
    # The first is in the version already; being out of stock is not.
    assert {*_IDS} - found == {"item2", "item3", "item8"}


def test_after_a_failure_everything_is_applied_again(model, live, log, monkeypatch):
    write(log, [("new", point(1.0)), ("item1", REMOVAL)])
    live.catch_up(log)
    write(log, [("new2", point(2.0)), ("new", REMOVAL), ("item1", Change())])
    run_function = model.run_function

    def fail(function, inputs, *, alone):
        if alone:
            raise ServingError(None, "out of memory")
        return run_function(function, inputs, alone=alone)

    monkeypatch.setattr(model, "run_function", fail)
    with pytest.raises(ServingError):
        live.catch_up(log)
    assert "new" in ask(model, [["item8"]], k=301)[0][0]
    monkeypatch.setattr(model, "run_function", run_function)
    live.catch_up(log)
    assert {*ask(model, [["item8"]], k=301)[0][0]} == {*_IDS, "new2"} - {"item8"}
    assert run(model, "item_embeddings", items=_text(["new"]))["known"].tolist() == [False]


def test_a_version_of_an_earlier_release_is_refused(tmp_path, log):
    description = tmp_path / names.LIVE_CATALOGUE_PATH
    description.parent.mkdir()
    description.write_text(json.dumps({names.FUNCTIONS: {}, "category_feature": "genre"}))
    with pytest.raises(ServingError, match="push the items again with item_refresh"):
        LiveModel(None, tmp_path, log.identity)


def test_upserts_add_up():
    first = Upsert(title="a", features={"point": 1.0}).after(None)
    assert Upsert(in_stock=False).after(first) == Change("a", {"point": 1.0}, in_stock=False)
    assert Upsert(in_stock=True).after(REMOVAL) == Change()


def _text(values):
    return np.array([value.encode() for value in values], object)


def test_own_items_follow_the_catalogue(tmp_path, log):
    """One is removed, one has another vector now; both had been had twice."""
    RepeatingTower(_IDS, _VECTORS, _COUNTS, categories=_CATEGORIES).save(tmp_path / "tower")
    save_bundle(tmp_path / "tower", tmp_path / "exact", "exact", IndexConfig(live_catalogue=True))
    model = SavedModel(tmp_path / "exact", session_config(optimize=False))
    live = LiveModel(model, tmp_path / "exact", log.identity)
    history = ["item4", "item6", "item4", "item6"]
    changes = {"item4": REMOVAL, "item6": point(2.5, "even")}
    write(log, changes.items())
    live.catch_up(log)
    interest = _VECTORS[4] + _VECTORS[6]  # both halves of the history are the same
    score = encoded(2.5, _DIM) @ interest / np.linalg.norm(interest) + 2 * RepeatingTower.GAIN
    for options in ({}, {"allow_categories": [["even"]]}):
        ids, answer = ask(model, [history], exclude_history=False, **options)
        assert "item4" not in ids[0]
        place = ids[0].index("item6")
        np.testing.assert_allclose(answer["scores"][0, place], score, rtol=1e-5)
    ids, _ = ask(model, [history], exclude_history=True)
    assert not {"item4", "item6"} & set(ids[0])
    model.close()
