import hashlib
import json

import pytest

from contract.manifest import MANIFEST_PATH
from serving.errors import ServingError
from serving.integrity import verify_manifest


@pytest.fixture
def version(tmp_path):
    files = {"saved_model.pb": b"model", "assets/items": b"1\n2\n3\n"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / MANIFEST_PATH).parent.mkdir()
    manifest = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    (tmp_path / MANIFEST_PATH).write_text(json.dumps({"run_key": "r", "files": manifest}))
    return tmp_path


def test_what_was_pushed_passes(version):
    verify_manifest(version)
    (version / "note").touch()  # more files do no harm
    verify_manifest(version)


def test_a_version_without_manifest_passes(version):
    (version / MANIFEST_PATH).unlink()
    verify_manifest(version)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: (v / "assets/items").write_bytes(b"1\n2\n"), "assets/items has 4 bytes, exp"),
        (lambda v: (v / "assets/items").write_bytes(b"1\n2\n4\n"), "expected content"),
        (lambda v: (v / "saved_model.pb").unlink(), "saved_model.pb is missing"),
        (lambda v: (v / MANIFEST_PATH).write_text('{"files"'), "cannot be read"),
        (lambda v: (v / MANIFEST_PATH).write_text("{}"), "cannot be read"),
        (lambda v: (v / MANIFEST_PATH).write_text('{"files": {"a": 1}}'), "cannot be read"),
    ],
)
def test_damage_is_found(version, damage, message):
    damage(version)
    with pytest.raises(ServingError, match=message) as e:
        verify_manifest(version)
    assert "Push the version again" in e.value.message
