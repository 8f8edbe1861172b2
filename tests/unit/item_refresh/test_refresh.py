"""New items into a pushed version: vectors against NumPy, the rest bit for bit."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.utils import io_utils

from contract.manifest import MANIFEST_PATH
from item_refresh import refresh as refresh_module
from item_refresh.__main__ import main
from item_refresh.refresh import Refreshed, refresh
from retrieval.manifest import read_manifest
from retrieval.versions import complete_versions
from tests import trained_export
from tests.shared import built_once
from tests.trained_export import COLD, catalogue, item_id, items_csv, known_rows, side_features

_NEW = {
    "new-a": (["war", "noir"], ["FR"]),
    "new, b": (["comedy", "never seen"], []),
    "new-c": ([], ["CN"]),
    # Items of exactly the same side features.
    "twin-1": (["drama", "war"], ["FR"]),
    "twin-2": (["drama", "war"], ["FR"]),
}
_NO_VECTOR = "new-d"  # every side feature is one that training has not seen
_NEWER = ("newer", "", "noir", "NL")
_MOVED = ("i05", "New title", "comedy", "CN")
_ABSENT = {"i01", COLD[0]}


def _new_rows():
    rows = [
        (f'"{item}"', f"Title {item.replace(',', '')}", "|".join(genres), "".join(countries))
        for item, (genres, countries) in _NEW.items()
    ]
    return [*rows, (_NO_VECTOR, "", "never seen", "XX")]


def _all_rows():
    """The refreshed catalogue, with one item more and one moved."""
    known = [_MOVED if row[0] == _MOVED[0] else row for row in known_rows()]
    return [*known, *_new_rows(), _NEWER]


class Chain:
    """A version and what refreshes one after another have made of it.

    Each is made when it is first asked for, after those before it.

    Attributes:
      base: Where the versions are.
      first: The version that the pipeline pushed.
    """

    def __init__(self, pushed: Path, folder: Path):
        self.base = folder / "served"
        shutil.copytree(pushed, self.base)
        (self.first,) = complete_versions(str(self.base))
        self._folder = folder
        self._loaded: dict[str, object] = {}

    @functools.cached_property
    def added(self) -> Refreshed:
        """A file of new items only."""
        return self._refresh("new.csv", _new_rows())

    @functools.cached_property
    def moved(self) -> Refreshed:
        """The whole catalogue but ``_ABSENT``, with another new item and one whose side features
        have changed; absent items are kept."""
        assert self.added
        return self._refresh("without.csv", self._without_absent())

    @functools.cached_property
    def removed(self) -> Refreshed:
        """The same file; absent items are removed."""
        assert self.moved
        return self._refresh("without.csv", self._without_absent(), remove_absent=True)

    @functools.cached_property
    def returned(self) -> Refreshed:
        """The whole catalogue: the absent items come back."""
        assert self.removed
        return self._refresh("all.csv", _all_rows())

    def _without_absent(self):
        return [row for row in _all_rows() if row[0] not in _ABSENT]

    def _refresh(self, name: str, rows: list, remove_absent: bool = False) -> Refreshed:
        file = items_csv(self._folder / name, rows)
        return refresh(str(self.base), [file], remove_absent=remove_absent)

    def load(self, version: str):
        """The bundle of a version, loaded once."""
        if version not in self._loaded:
            self._loaded[version] = _load(self.base, version)
        return self._loaded[version]


@pytest.fixture(scope="module")
def model(trained):
    return trained_export.Trained(trained)


@pytest.fixture(scope="module")
def pushed_scann(tmp_path_factory, trained):
    return built_once(
        tmp_path_factory,
        "pushed_scann",
        lambda base: trained_export.push_bundle(trained, base, "scann"),
    )


# Bundles are tested with both kinds of index where they are built; here is what a refresh adds.
@pytest.fixture(scope="module", params=["exact", pytest.param("scann", marks=pytest.mark.slow)])
def pushed(request):
    """Base path with one version; tests copy it."""
    return request.getfixturevalue(f"pushed_{request.param}")


@pytest.fixture(scope="module")
def chain(pushed, tmp_path_factory):
    """Read it only."""
    return Chain(pushed, tmp_path_factory.mktemp("chain"))


@pytest.fixture
def base(pushed_exact, tmp_path):
    """Base path with one version of the exact kind, for a test that changes it."""
    path = tmp_path / "served"
    shutil.copytree(pushed_exact, path)
    return path


def _load(base, version):
    return tf.saved_model.load(str(base / version))


def _ids(bundle):
    return [item.decode() for item in bundle.tower.item_ids.numpy()]


def _recommend(bundle, history, k=100):
    answer = bundle.signatures["serving_default"](
        history=tf.constant([history]),
        k=tf.constant(k),
        exclude=tf.constant([[""]]),
        exclude_history=tf.constant(True),
        diversity=tf.constant(0.0),
        allow_categories=tf.constant([[""]]),
        deny_categories=tf.constant([[""]]),
    )
    return [i.decode() for i in answer["item_ids"].numpy()[0] if i], answer


def test_the_export_embeds_as_the_formula_says(model, trained):
    """The oracle itself: it gives the vectors that the model gives known items."""
    tower = tf.saved_model.load(str(trained / "export"))
    vectors = [model.vector(item, *side_features(item)) for item in catalogue()]
    np.testing.assert_allclose(tower.item_vectors, vectors, atol=1e-6)


def test_new_items_are_embedded_by_their_side_features_and_found(chain, model):
    done = chain.added
    assert done.base_version == chain.first
    assert (done.changes.added, done.changes.added_without_vector) == (len(_NEW), 1)
    assert (done.changes.changed, done.changes.removed) == (0, 0)

    old, new = chain.load(chain.first), chain.load(done.version)
    ids = _ids(new)
    assert ids == [*catalogue(), *_NEW, _NO_VECTOR]
    num_known = len(catalogue())
    known = new.tower.item_vectors.numpy()[:num_known]
    assert known.tobytes() == old.tower.item_vectors.numpy().tobytes()
    expected = [model.vector(item, *features) for item, features in _NEW.items()]
    added = new.tower.item_vectors.numpy()[num_known:]
    np.testing.assert_allclose(added[: len(_NEW)], expected, atol=1e-6)
    assert not added[len(_NEW)].any()
    assert new.tower.train_counts.numpy()[num_known:].tolist() == [0] * (len(_NEW) + 1)

    # The whole ranking, new items among the others, against NumPy.
    history = [item_id(3), item_id(17), item_id(30)]
    user = new.signatures["user_interests"](history=tf.constant([history]))
    interests = user["interests"].numpy()[0][user["interest_mask"].numpy()[0]]
    vectors = np.concatenate([known, expected])
    scores = (vectors @ interests.T).max(axis=1)
    order = [ids[i] for i in np.argsort(-scores, kind="stable") if ids[i] not in history]
    found, _ = _recommend(new, history)
    assert sorted(found) == sorted(order)
    # The twins' scores are equal, so that either may come first.
    one = {"twin-2": "twin-1"}
    assert [one.get(item, item) for item in found] == [one.get(item, item) for item in order]
    assert set(_NEW) < set(found)


def test_the_new_item_is_the_nearest_of_its_own_description(chain):
    """Items of exactly the same side features have the same vector."""
    similar = chain.load(chain.added.version).signatures["similar_items"](
        items=tf.constant(["twin-1"]), k=tf.constant(1)
    )
    assert similar["item_ids"].numpy().tolist() == [[b"twin-2"]]
    np.testing.assert_allclose(similar["scores"], [[1.0]], atol=1e-5)


def test_titles_categories_and_filters_know_the_new_items(chain):
    bundle = chain.load(chain.added.version)
    items = tf.constant(["new-a", "new, b", "new-c", "i00"])
    titles = bundle.signatures["item_titles"](items=items)["titles"].numpy().tolist()
    assert titles == [b"Title new-a", b"Title new b", b"Title new-c", b"Title i00"]
    categories = bundle.signatures["item_categories"](items=items)["categories"].numpy()
    assert [[name.decode() for name in row if name] for row in categories] == [
        ["noir", "war"],
        ["comedy", "never seen"],
        [],
        sorted(side_features("i00")[0]),
    ]
    answer = bundle.signatures["serving_default"](
        history=tf.constant([["i03"]]),
        k=tf.constant(5),
        exclude=tf.constant([[""]]),
        exclude_history=tf.constant(True),
        diversity=tf.constant(0.0),
        allow_categories=tf.constant([["never seen"]]),
        deny_categories=tf.constant([[""]]),
    )
    assert answer["item_ids"].numpy()[0].tolist() == [b"new, b", b"", b"", b"", b""]


def test_a_history_of_new_items_only_is_answered_with_popular_ones(chain):
    """Nothing of the tower knows them until the next training; they stay excluded."""
    bundle = chain.load(chain.added.version)
    found, answer = _recommend(bundle, ["new-a", "new-c"], k=60)
    assert found[:2] == ["i00", "i01"]
    assert not {"new-a", "new-c"} & set(found)
    assert answer["num_known"].numpy().tolist() == [0]
    # Beside known items they change nothing but the exclusion.
    with_new, answer = _recommend(bundle, ["new-a", "i03", "i17"])
    without, _ = _recommend(bundle, ["i03", "i17"])
    assert with_new == [item for item in without if item != "new-a"]
    assert answer["num_known"].numpy().tolist() == [2]


def test_changed_features_move_an_item_and_leave_the_others(chain, model):
    changes = chain.moved.changes
    assert (changes.added, changes.changed, changes.removed) == (1, 1, 0)
    num_before = len(catalogue()) + len(_new_rows())
    assert changes.unchanged == num_before - 1
    old, new = (
        chain.load(done.version).tower.item_vectors.numpy() for done in (chain.added, chain.moved)
    )
    row = catalogue().index("i05")
    np.testing.assert_allclose(new[row], model.vector("i05", ["comedy"], ["CN"]), atol=1e-6)
    others = np.delete(new, [row, num_before], 0)
    assert others.tobytes() == np.delete(old, row, 0).tobytes()


@pytest.mark.slow
def test_a_title_or_a_category_alone_counts_as_a_change(base, tmp_path, capsys):
    """The vectors stay: the title is no feature of the model."""
    (version,) = complete_versions(str(base))
    rows = known_rows()
    row = next(i for i, row in enumerate(rows) if row[0] == "i05")
    rows[row] = ("i05", "New title", *rows[row][2:])
    file = items_csv(tmp_path / "all.csv", rows)
    assert main(["--model_base_path", str(base), "--items", file]) == 0
    assert f"0 items added, 1 changed, 0 removed, {len(rows) - 1} as before" in (
        capsys.readouterr().out
    )
    newest = complete_versions(str(base))[-1]
    old, new = _load(base, version).tower, _load(base, newest).tower
    assert new.item_vectors.numpy().tobytes() == old.item_vectors.numpy().tobytes()
    assert new.item_titles.numpy()[catalogue().index("i05")] == b"New title"


@pytest.mark.slow
def test_absent_items_go_only_when_asked_and_come_back(chain):
    assert chain.moved.changes.removed == 0
    done = chain.removed
    assert (done.changes.removed, done.changes.changed) == (2, 0)
    bundle = chain.load(done.version)
    num_found = len(catalogue()) + len(_NEW) + 1  # of _new_rows, one has no vector; _NEWER has
    for history in (["i03", "i17"], []):
        found, _ = _recommend(bundle, history or [""])
        assert not _ABSENT & set(found)
        assert len(found) == num_found - 2 - len(history)
    back = chain.returned
    refreshed = (chain.added, chain.moved, done, back)
    assert complete_versions(str(chain.base)) == [chain.first, *(r.version for r in refreshed)]
    assert (back.changes.changed, back.changes.removed) == (2, 0)
    found, _ = _recommend(chain.load(back.version), ["i03", "i17"])
    assert set(found) > _ABSENT


def test_a_refreshed_version_can_be_evaluated_and_refreshed_again(chain):
    assert chain.moved.base_version == chain.added.version
    bundle = chain.load(chain.moved.version)
    assert _ids(bundle)[-2:] == [_NO_VECTOR, _NEWER[0]]
    example = trained_export.to_example(
        trained_export.sequence_row(["i03", "i17", "i05"], user="u", num_targets=1)
    )
    ranks = bundle.signatures["evaluate"](examples=tf.constant([example.SerializeToString()]))
    user = bundle.signatures["user_interests"](history=tf.constant([["i03", "i17"]]))
    interests = user["interests"].numpy()[0][user["interest_mask"].numpy()[0]]
    vectors = bundle.tower.item_vectors.numpy()
    scores = (vectors @ interests.T).max(axis=1)
    better = (scores > scores[_ids(bundle).index("i05")]) & ~np.isin(_ids(bundle), ["i03", "i17"])
    better &= vectors.any(axis=1)  # an item without a vector is never found
    assert ranks["ranks"].numpy().tolist() == [[1 + better.sum()]]
    assert ranks["catalogue_size"].numpy().tolist() == [len(_all_rows())]


def test_the_manifest_says_what_was_done(chain):
    before = read_manifest(str(chain.base / chain.first))
    after = read_manifest(str(chain.base / chain.added.version))
    assert after["run_key"] == before["run_key"]
    assert after["config"] == before["config"]
    assert after["catalogue"]["items"] == before["catalogue"]["items"] + len(_NEW) + 1
    assert after["catalogue"]["retrievable"] == before["catalogue"]["retrievable"] + len(_NEW)
    assert after["refresh"]["base_version"] == chain.first
    assert after["refresh"]["added"] == len(_NEW)
    assert len(after["refresh"]["items_digest"]) == 16


def test_a_failing_validation_pushes_nothing(base, tmp_path, capsys):
    (version,) = complete_versions(str(base))
    path = base / version / MANIFEST_PATH
    manifest = json.loads(path.read_text())
    manifest["config"]["index"]["max_latency_ms"] = 1e-6
    path.write_text(json.dumps(manifest))
    before = sorted(p.name for p in base.iterdir())
    file = items_csv(tmp_path / "new.csv", _new_rows())
    assert main(["--model_base_path", str(base), "--items", file]) == 3
    assert sorted(p.name for p in base.iterdir()) == before
    assert "Not pushed: the p99 latency of single requests is" in capsys.readouterr().err


def test_a_version_pushed_meanwhile_is_not_overtaken(base, tmp_path, monkeypatch):
    (version,) = complete_versions(str(base))
    original = refresh_module.validate

    def push_meanwhile(*args):
        shutil.copytree(base / version, base / str(int(version) + 1))
        return original(*args)

    monkeypatch.setattr(refresh_module, "validate", push_meanwhile)
    file = items_csv(tmp_path / "new.csv", _new_rows())
    with pytest.raises(ValueError, match="was pushed while"):
        refresh(str(base), [file])
    assert complete_versions(str(base)) == [version, str(int(version) + 1)]


def test_what_cannot_be_refreshed_is_refused_with_the_reason(base, tmp_path, capsys):
    file = items_csv(tmp_path / "new.csv", _new_rows())
    (version,) = complete_versions(str(base))

    def message(*args):
        assert main(["--model_base_path", str(base), *args]) == 1
        return capsys.readouterr().err

    assert "No input file matches" in message("--items", str(tmp_path / "none.csv"))
    (tmp_path / "other.csv").write_text("id,name,genre,country\nx,,,\n")
    assert "did you mean 'genre'" in message("--items", str(tmp_path / "other.csv"))
    (tmp_path / "bad.csv").write_text('id,name,genres,country\n"",a,war,FR\nx,b,war,FR\n')
    assert "1 of 2 rows" in message("--items", str(tmp_path / "bad.csv"))
    assert "cannot be refreshed" in message("--items", file, "--version", "12")
    assert "No examples" in message("--items", file, "--examples", str(tmp_path))
    assert complete_versions(str(base)) == [version]
    path = base / version / MANIFEST_PATH
    manifest = json.loads(path.read_text())
    manifest["config"]["data"]["items"] = None
    path.write_text(json.dumps(manifest))
    assert "was trained without an items file" in message("--items", file)
    with pytest.raises(ValueError, match="No complete version"):
        refresh(str(tmp_path / "nowhere"), [file])


@pytest.mark.slow
def test_a_version_in_an_object_store_is_refreshed_there_whatever_is_newest(
    pushed, tmp_path, object_store
):
    (version,) = complete_versions(str(pushed))
    newer = str(int(version) + 1)
    for name in (version, newer):
        io_utils.copy_dir(str(pushed / version), f"{object_store}/{name}")
    file = items_csv(tmp_path / "new.csv", _new_rows())
    done = refresh(object_store, [file], version=version)
    assert done.base_version == version
    assert complete_versions(object_store) == [version, newer, done.version]
    assert item_id(0) in _ids(tf.saved_model.load(f"{object_store}/{done.version}"))
