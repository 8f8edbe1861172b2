"""The file of the release state: whole or not at all, one change at a time."""

import dataclasses
import json
import multiprocessing
import signal
import subprocess
import sys

import pytest

from contract import release_changes, release_file
from contract.manifest import MANIFEST_PATH, describe_file, to_json
from contract.release import MAX_HISTORY, ReleaseError, ReleaseState
from contract.versions import local_complete_versions


def pinned(version):
    return lambda state: dataclasses.replace(state, stable=version)


def test_what_was_written_is_read_and_a_missing_file_says_nothing(tmp_path):
    assert release_file.read(tmp_path) == ReleaseState()
    after = release_file.change(tmp_path, pinned(7))
    assert release_file.read(tmp_path) == after == ReleaseState(stable=7)
    # Servers run as somebody else.
    assert (tmp_path / "release.json").stat().st_mode & 0o044 == 0o044


def test_a_refused_change_and_a_damaged_file_are_left_as_they_are(tmp_path):
    release_file.change(tmp_path, pinned(7))
    before = (tmp_path / "release.json").read_bytes()

    def refuse(state):
        raise ReleaseError("no")

    with pytest.raises(ReleaseError, match="no"):
        release_file.change(tmp_path, refuse)
    assert (tmp_path / "release.json").read_bytes() == before
    for damage in (b"{", b"\xff"):
        (tmp_path / "release.json").write_bytes(damage)
        with pytest.raises(ReleaseError, match=r"release\.json cannot be used"):
            release_file.change(tmp_path, pinned(5))
        assert (tmp_path / "release.json").read_bytes() == damage


def _pin_often(base_path, versions):
    for version in versions:
        release_file.change(
            base_path, lambda s, v=version: release_changes.pin(s, range(1000), v, by="x")
        )


def test_changes_of_several_processes_are_all_there(tmp_path):
    context = multiprocessing.get_context("spawn")
    lots = [range(n, n + 10) for n in (0, 100, 200)]
    writers = [context.Process(target=_pin_often, args=(tmp_path, lot)) for lot in lots]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    noted = [change.what for change in release_file.read(tmp_path).history]
    assert len(noted) < MAX_HISTORY
    assert sorted(noted) == sorted(f"pinned {v}" for lot in lots for v in lot)


def test_a_change_that_does_not_end_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(release_file, "_LOCK_SECONDS", 0.0)

    def change_meanwhile(state):
        with pytest.raises(ReleaseError, match="Another process has been changing the release"):
            release_file.change(tmp_path, pinned(5))
        return pinned(7)(state)

    assert release_file.change(tmp_path, change_meanwhile).stable == 7


_WRITE_HALF = """
import os, sys, time
from pathlib import Path
from contract import release_file
from contract.release import ReleaseState

def wait(descriptor):
    print("written", flush=True)
    time.sleep(600)

os.fsync = wait
release_file.change(Path(sys.argv[1]), lambda state: ReleaseState(stable=9))
"""


def test_a_killed_change_leaves_the_state_before_and_no_lock(tmp_path):
    release_file.change(tmp_path, pinned(7))
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE_HALF, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert release_file.read(tmp_path).stable == 7
    assert release_file.change(tmp_path, pinned(5)).stable == 5
    assert json.loads((tmp_path / "release.json").read_text())["stable"] == 5


def test_complete_versions_are_those_whose_files_are_all_there(tmp_path):
    for name in ("5", "10", "7", "8", "9", "notes"):
        (tmp_path / name / "assets.extra").mkdir(parents=True)
        if name != "9":
            (tmp_path / name / "saved_model.pb").write_bytes(b"graph")
    for name, content in (("7", b"weights"), ("10", b"weights")):
        data = tmp_path / name / "data"
        data.write_bytes(content)
        with data.open("rb") as stream:
            facts = to_json({}, {"data": describe_file(stream)})
        (tmp_path / name / MANIFEST_PATH).write_text(facts)
    (tmp_path / "8" / MANIFEST_PATH).write_text("no manifest")
    assert local_complete_versions(tmp_path) == [5, 7, 10]
    (tmp_path / "7" / "data").write_bytes(b"wei")
    (tmp_path / "10" / "data").unlink()
    assert local_complete_versions(tmp_path) == [5]
