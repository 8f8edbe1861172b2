"""What the manifest says about the files beside it."""

import hashlib
import json

from contract.manifest import MANIFEST_PATH
from retrieval.manifest import missing_files, read_manifest, write_manifest


def test_every_file_is_listed_with_size_and_digest(tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "data").write_bytes(b"\0" * 3_000_000)
    write_manifest(str(tmp_path), {"run_key": "abc"})
    manifest = json.loads((tmp_path / MANIFEST_PATH).read_text())
    assert manifest["run_key"] == "abc"
    assert manifest["files"] == {
        "saved_model.pb": {"bytes": 5, "sha256": hashlib.sha256(b"graph").hexdigest()},
        "variables/data": {
            "bytes": 3_000_000,
            "sha256": hashlib.sha256(b"\0" * 3_000_000).hexdigest(),
        },
    }
    assert read_manifest(str(tmp_path)) == manifest
    assert missing_files(str(tmp_path)) == []


def test_files_that_went_missing_are_named(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    write_manifest(str(tmp_path), {})
    (tmp_path / "b").unlink()
    (tmp_path / "c").write_text("")  # cut short
    assert missing_files(str(tmp_path)) == ["b", "c"]


def test_no_or_broken_manifest_is_none(tmp_path):
    assert read_manifest(str(tmp_path)) is None
    path = tmp_path / MANIFEST_PATH
    path.parent.mkdir()
    for text in ("", '{"run_key": "a', "[1]"):
        path.write_text(text)
        assert read_manifest(str(tmp_path)) is None


def test_a_manifest_that_cannot_be_read_is_missing_itself(tmp_path):
    """Servers refuse such a version, so it must not count as complete either."""
    assert missing_files(str(tmp_path)) == []  # no manifest, no claim
    path = tmp_path / MANIFEST_PATH
    path.parent.mkdir()
    for text in ("", '{"files": {"a"', "[1]", "{}", '{"files": {"a": 1}}'):
        path.write_text(text)
        assert missing_files(str(tmp_path)) == [MANIFEST_PATH]
