import os

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from contract.release import ReleaseState
from serving.versions import Listing, Snapshot, VersionPolicy, is_version


def _policy(text):
    proto = source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy()
    return VersionPolicy.from_proto(text_format.Parse(text, proto))


@pytest.mark.parametrize(
    ("text", "candidates", "limit"),
    [
        ("", [9, 7, 2], 1),
        ("latest { }", [9, 7, 2], 1),
        ("latest { num_versions: 2 }", [9, 7, 2], 2),
        ("all { }", [9, 7, 2], None),
        ("specific { versions: 2 versions: 7 versions: 5 }", [7, 2], None),
    ],
)
def test_policies_read_tf_servings_configuration(text, candidates, limit):
    policy = _policy(text)
    assert policy.candidates({7, 9, 2}, ReleaseState()) == candidates
    assert policy.limit == limit


def test_only_directories_with_a_number_are_versions(tmp_path):
    for name in ("1", "20", "003", ".staging-4", "4.tmp", "v5", "-6", "\u0667"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").touch()
    listing = Listing.read(tmp_path)
    assert listing.versions == {1: tmp_path / "1", 3: tmp_path / "003", 20: tmp_path / "20"}
    assert listing.ignored == {"8": "it is not a directory"}
    with pytest.raises(FileNotFoundError):
        Listing.read(tmp_path / "none")
    with pytest.raises(NotADirectoryError):
        Listing.read(tmp_path / "8")


@pytest.mark.parametrize(
    ("digits", "expected"),
    [("0", True), (str(2**63 - 1), True), (str(2**63), False), ("0" * 5000 + "7", True),
     ("7" * 5000, False)],
)  # fmt: skip
def test_versions_are_numbers_that_tf_serving_can_name(digits, expected):
    assert is_version(digits) is expected


def test_a_snapshot_sees_every_change_of_a_directory(tmp_path):
    (tmp_path / "variables").mkdir()
    file = tmp_path / "variables" / "data"
    file.write_bytes(b"1234")
    before = Snapshot.take(tmp_path)
    assert [(name, size) for name, size, _ in before.files] == [("variables/data", 4)]
    assert Snapshot.take(tmp_path) == before
    file.write_bytes(b"4321")
    assert Snapshot.take(tmp_path) != before


def test_a_directory_settles_when_nothing_changed_for_long_enough(tmp_path):
    file = tmp_path / "data"
    file.touch()
    os.utime(file, (0, 0))  # an old modification time proves nothing
    assert not Snapshot.take(tmp_path).is_older_than(60.0)
    assert Snapshot.take(tmp_path).is_older_than(0.0)
