"""The push: whole or not at all, also when it is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf

from contract import release_changes, release_file
from retrieval import push as push_module
from retrieval.manifest import write_manifest
from retrieval.push import WithdrawnError, push


def make_model(directory, text="graph", size=10, **facts):
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_text(text)
    (directory / "variables" / "data").write_bytes(b"w" * size)
    write_manifest(str(directory), {"run_key": text, **facts})
    return str(directory)


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def visible(base):
    """What a server that watches ``base`` takes for versions."""
    return sorted((name for name in os.listdir(base) if name.isdecimal()), key=int)


@pytest.fixture
def base(tmp_path):
    return tmp_path / "serving" / "mind"


def test_the_version_is_a_copy_and_its_name_the_time(tmp_path, base):
    model = make_model(tmp_path / "model")
    before = int(time.time())
    version = push(model, str(base))
    assert before <= int(version) <= int(time.time())
    assert contents(base / version) == contents(tmp_path / "model")
    assert visible(base) == [version]
    # Servers run as somebody else.
    assert (base / version).stat().st_mode & 0o055 == 0o055


def test_versions_rise_within_one_second_and_after_a_clock_step_back(tmp_path, base):
    (base / "99999999999").mkdir(parents=True)  # half a version, from the future
    pushed = [push(make_model(tmp_path / name, name), str(base)) for name in "abc"]
    assert pushed == ["100000000000", "100000000001", "100000000002"]
    assert (base / "100000000001" / "saved_model.pb").read_text() == "b"


def test_the_same_model_is_not_pushed_twice_in_a_row(tmp_path, base):
    first, second = (make_model(tmp_path / name, name) for name in "ab")
    version = push(first, str(base))
    assert push(first, str(base)) == version
    other = push(second, str(base))
    # Back to the first one: a new version, because the newest is served.
    again = push(first, str(base))
    assert visible(base) == [version, other, again]


def test_a_refresh_of_the_items_is_not_undone_by_its_own_run(tmp_path, base):
    model, other = (make_model(tmp_path / name, name) for name in ("model", "other"))
    refreshed = [
        make_model(tmp_path / f"refreshed-{n}", "model", refresh={"added": n}) for n in (1, 2)
    ]
    version = push(model, str(base))
    newer = [push(directory, str(base)) for directory in refreshed]
    assert push(model, str(base)) == version
    assert visible(base) == [version, *newer]
    # Another run's model does replace it, and can itself be replaced.
    assert push(other, str(base)) not in (version, *newer)
    assert push(model, str(base)) not in (version, *newer)


def roll_back(base):
    names = [int(name) for name in visible(base)]
    release_file.change(base, lambda s: release_changes.roll_back(s, names, by="ann", reason="bad"))


def test_a_model_that_was_withdrawn_is_not_pushed_again(tmp_path, base):
    first, second, third = (make_model(tmp_path / name, name) for name in "abc")
    versions = [push(first, str(base)), push(second, str(base))]
    roll_back(base)
    message = rf"Version {versions[1]} .* was withdrawn at .* by ann \(bad\); nothing was pushed"
    with pytest.raises(WithdrawnError, match=message) as e:
        push(second, str(base))
    assert e.value.version == versions[1]
    # The version before it is in service, and is not pushed twice.
    assert push(first, str(base)) == versions[0]
    assert visible(base) == versions
    # A newer version does not open the way for it.
    versions.append(push(third, str(base)))
    with pytest.raises(WithdrawnError):
        push(second, str(base))
    # But once its directory is gone, it is pushed as any model.
    shutil.rmtree(base / versions[1])
    assert push(second, str(base)) not in versions


def test_the_number_of_a_withdrawn_version_is_not_given_again(tmp_path, base):
    version = "99999999999"
    push(make_model(tmp_path / "a", "a"), str(base))
    shutil.copytree(make_model(tmp_path / "b", "b"), base / version)
    roll_back(base)
    shutil.rmtree(base / version)
    assert push(make_model(tmp_path / "c", "c"), str(base)) == "100000000000"


def test_a_refresh_that_was_withdrawn_leaves_its_run_pushed(tmp_path, base):
    version = push(make_model(tmp_path / "model", "model"), str(base))
    refreshed = make_model(tmp_path / "refreshed", "model", refresh={"added": 1})
    push(refreshed, str(base))
    roll_back(base)
    assert push(str(tmp_path / "model"), str(base)) == version


def test_a_broken_newest_version_is_pushed_again(tmp_path, base):
    model = make_model(tmp_path / "model")
    version = push(model, str(base))
    (base / version / "variables" / "data").unlink()
    again = push(model, str(base))
    assert int(again) > int(version)
    assert contents(base / again) == contents(tmp_path / "model")


def test_pushes_at_the_same_time_all_arrive_whole(tmp_path, base):
    models = [make_model(tmp_path / f"m{i}", f"m{i}") for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        pushed = list(pool.map(lambda model: push(model, str(base)), models))
    assert len(set(pushed)) == 6
    for i, version in enumerate(pushed):
        assert contents(base / version) == contents(tmp_path / f"m{i}")


def test_an_existing_version_is_never_overwritten(tmp_path, base, monkeypatch):
    monkeypatch.setattr(push_module, "_next_version", lambda _: "7")
    first, second = (make_model(tmp_path / name, name) for name in "ab")
    push(first, str(base))
    with pytest.raises(FileExistsError, match="nothing was pushed"):
        push(second, str(base))
    assert (base / "7" / "saved_model.pb").read_text() == "a"


def test_what_is_no_saved_model_is_refused(tmp_path, base):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected a SavedModel, found no saved_model.pb"):
        push(str(tmp_path / "empty"), str(base))
    assert not base.exists()


_PUSH_SLOWLY = """
import sys, time
import tensorflow as tf

copy = tf.io.gfile.copy

def copy_then_wait(source, destination):
    copy(source, destination)
    print("copied", destination, flush=True)
    time.sleep(600)

tf.io.gfile.copy = copy_then_wait
from retrieval.push import push
push(sys.argv[1], sys.argv[2])
"""


def test_a_killed_push_leaves_nothing_to_serve_and_the_next_one_cleans_up(tmp_path, base):
    served = push(make_model(tmp_path / "old", "old"), str(base))
    model = make_model(tmp_path / "new", "new")
    process = subprocess.Popen(
        [sys.executable, "-c", _PUSH_SLOWLY, model, str(base)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("copied")
    process.send_signal(signal.SIGKILL)
    process.wait()

    leftovers = [name for name in os.listdir(base) if name.startswith(".staging-")]
    assert len(leftovers) == 1
    assert visible(base) == [served]
    assert contents(base / served) == contents(tmp_path / "old")

    version = push(model, str(base))
    assert contents(base / version) == contents(tmp_path / "new")
    assert sorted(os.listdir(base)) == sorted([".push.lock", served, version])


def test_on_an_object_store_the_graph_comes_last(tmp_path, object_store, monkeypatch):
    """No rename there: servers wait for saved_model.pb."""
    order = []
    model = make_model(tmp_path / "model")
    copy = tf.io.gfile.copy

    def recorded(source, destination, *args, **kwargs):
        order.append(os.path.basename(destination))
        return copy(source, destination, *args, **kwargs)

    monkeypatch.setattr(tf.io.gfile, "copy", recorded)
    version = push(model, object_store)
    assert sorted(order) == ["data", "manifest.json", "saved_model.pb"]
    assert order[-1] == "saved_model.pb"
    with tf.io.gfile.GFile(f"{object_store}/{version}/variables/data", "rb") as file:
        assert file.read() == b"w" * 10
    # The same model is found again, and another one gets a larger number.
    assert push(model, object_store) == version
    assert int(push(make_model(tmp_path / "other", "other"), object_store)) > int(version)
