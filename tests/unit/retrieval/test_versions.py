"""Which pushed versions count."""

import pytest
import tensorflow as tf

from contract.release import Canary, ReleaseError, ReleaseState, Withdrawal, to_json
from retrieval.manifest import write_manifest
from retrieval.versions import complete_versions, newest_version, versions


def push_version(base, version, run_key=None):
    """Writes a version directory, with a manifest if ``run_key`` is given."""
    directory = base / version
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_text(f"graph {version}")
    (directory / "variables" / "data").write_text("weights")
    if run_key is not None:
        write_manifest(str(directory), {"run_key": run_key})
    return directory


@pytest.fixture
def base(tmp_path):
    push_version(tmp_path, "9", "run-a")
    push_version(tmp_path, "10", "run-b")
    push_version(tmp_path, "100", "run-c")
    push_version(tmp_path, "101", "run-c")
    push_version(tmp_path, ".staging-abc", "run-d")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".push.lock").touch()
    return tmp_path


def test_versions_are_numbers_in_their_order(base):
    assert versions(str(base)) == complete_versions(str(base)) == ["9", "10", "100", "101"]


def test_only_plain_digits_make_a_version(base):
    """What int() reads beside them, servers pass over."""
    for name in ("\u0663", "1_0", "+7", " 8", "9\u00b2"):
        push_version(base, name, "run-d")
    assert versions(str(base)) == ["9", "10", "100", "101"]


def test_a_missing_destination_has_none(tmp_path):
    assert versions(str(tmp_path / "nowhere")) == []
    assert newest_version(str(tmp_path / "nowhere")) == ""


def test_the_newest_is_the_newest_of_another_run(base):
    assert newest_version(str(base)) == "101"
    assert newest_version(str(base), other_than_run_key="run-a") == "101"
    assert newest_version(str(base), other_than_run_key="run-c") == "10"


def test_half_a_version_does_not_count(base):
    (base / "101" / "variables" / "data").unlink()
    (base / "100" / "saved_model.pb").write_text("gra")
    (base / "200").mkdir()
    assert complete_versions(str(base)) == ["9", "10"]
    assert versions(str(base))[-1] == "200"


def test_a_version_of_something_else_counts_by_its_graph(base):
    push_version(base, "300")
    assert newest_version(str(base), other_than_run_key="run-a") == "300"
    (base / "300" / "saved_model.pb").unlink()
    assert newest_version(str(base)) == "101"


def test_only_versions_of_this_run_is_none(tmp_path):
    push_version(tmp_path, "1", "run-a")
    assert newest_version(str(tmp_path), other_than_run_key="run-a") == ""


def _state(base, **fields):
    (base / "release.json").write_text(to_json(ReleaseState(**fields)))


def _withdrawn(*versions):
    return dict.fromkeys(versions, Withdrawal(at="noon", by="ann", reason="bad"))


def test_a_withdrawn_version_is_not_compared_with(base):
    _state(base, withdrawn=_withdrawn(101))
    assert newest_version(str(base)) == "100"
    _state(base, withdrawn=_withdrawn(100, 101))
    assert newest_version(str(base)) == "10"
    # It is still a complete version.
    assert complete_versions(str(base))[-1] == "101"


def test_a_pinned_version_is_compared_with_and_a_canary_is_not(base):
    _state(base, stable=10, withdrawn=_withdrawn(101))
    assert newest_version(str(base)) == "10"
    # A rerun of the run that made it has the baseline that it had before.
    assert newest_version(str(base), other_than_run_key="run-b") == "9"
    _state(base, canary=Canary(version=101, share=0.1))
    assert newest_version(str(base)) == "100"


def test_the_state_is_read_from_an_object_store(object_store):
    for version in ("5", "7"):
        tf.io.gfile.makedirs(f"{object_store}/{version}")
        with tf.io.gfile.GFile(f"{object_store}/{version}/saved_model.pb", "w") as file:
            file.write("graph")
    assert newest_version(object_store) == "7"
    with tf.io.gfile.GFile(f"{object_store}/release.json", "w") as file:
        file.write(to_json(ReleaseState(withdrawn=_withdrawn(7))))
    assert newest_version(object_store) == "5"


def test_a_damaged_state_stops_the_run_that_asks(base):
    (base / "release.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"release\.json cannot be used"):
        newest_version(str(base))
