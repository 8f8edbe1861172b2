import os

import pytest

from contract.release_changes import promote
from contract.release_file import change
from retrieval import version_removal
from retrieval.version_removal import removable_versions, remove_version
from retrieval.versions import versions

_NOW = 1_000_000.0
_HOUR = 3600


@pytest.fixture
def pushed(tmp_path):
    """Makes a version that was pushed so many seconds ago; returns its directory."""

    def make(version, age, complete=True):
        folder = tmp_path / version
        folder.mkdir()
        file = folder / ("saved_model.pb" if complete else "part")
        file.write_text("graph")
        for path in (file, folder):
            os.utime(path, (_NOW - age, _NOW - age))
        return folder

    return make


def test_versions_beyond_the_newest_ones_can_go(tmp_path, pushed):
    for number in (9, 10, 11, 12):
        pushed(str(number), 2 * _HOUR)
    pushed("8", 2 * _HOUR, complete=False)
    pushed("13", 2 * _HOUR, complete=False)  # a push under way
    assert removable_versions(str(tmp_path), 2, now=_NOW) == ["8", "9", "10"]
    assert removable_versions(str(tmp_path), 4, now=_NOW) == ["8"]


def test_what_the_release_state_uses_stays(tmp_path, pushed):
    for number in range(1, 7):
        pushed(str(number), 2 * _HOUR)
    change(tmp_path, lambda state: promote(state, range(1, 7), 3, by="me"))
    # 3 is pinned, and a roll-back would make 2 stable.
    assert removable_versions(str(tmp_path), 2, now=_NOW) == ["1", "4"]


def test_a_named_version_and_a_young_one_stay(tmp_path, pushed):
    pushed("1", 2 * _HOUR)
    pushed("2", 2 * _HOUR)
    pushed("3", _HOUR - 1)
    pushed("4", _HOUR - 2)
    assert removable_versions(str(tmp_path), 1, ["1"], now=_NOW) == ["2"]


def test_a_directory_without_a_version_has_none_to_remove(tmp_path):
    assert removable_versions(str(tmp_path / "nowhere"), 1) == []
    (tmp_path / "5").mkdir()  # not complete, and nothing newer is
    assert removable_versions(str(tmp_path), 1) == []


def test_a_server_never_sees_a_part_of_a_version(tmp_path, pushed, monkeypatch):
    pushed("1", 0)
    pushed("2", 0)
    seen = []

    def interrupted(path):
        seen.append((versions(str(tmp_path)), sorted(os.listdir(path))))
        raise OSError("killed")

    monkeypatch.setattr(version_removal.shutil, "rmtree", interrupted)
    with pytest.raises(OSError, match="killed"):
        remove_version(str(tmp_path), "1")
    assert seen == [(["2"], ["saved_model.pb"])]


def test_the_next_push_removes_what_a_killed_removal_left(tmp_path, pushed):
    from retrieval.push import push

    model = pushed("1", 0)
    (tmp_path / ".removed-0-x").mkdir()
    destination = tmp_path / "destination"
    destination.mkdir()
    (tmp_path / ".removed-0-x").rename(destination / ".removed-0-x")
    push(str(model), str(destination))
    assert not (destination / ".removed-0-x").exists()
