"""Blessings and properties are TFX's own."""

import shutil

import pytest
from tfx import v1 as tfx
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.pusher.executor import Executor
from contract import release_changes, release_file
from retrieval.manifest import write_manifest


def _artifact(artifact_class, path, blessed=None):
    artifact = artifact_class()
    artifact.uri = str(path)
    if blessed is not None:
        artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


@pytest.fixture
def run(tmp_path):
    model_dir = tmp_path / "model" / "Format-Serving"
    model_dir.mkdir(parents=True)
    (model_dir / "saved_model.pb").write_text("graph")
    base = tmp_path / "serving"
    destination = tfx.proto.PushDestination(
        filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(base))
    )

    def call(model_blessed, infra_blessed):
        pushed = _artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
        Executor().Do(
            {
                "model": [_artifact(standard_artifacts.Model, tmp_path / "model")],
                "model_blessing": [
                    _artifact(standard_artifacts.ModelBlessing, tmp_path, model_blessed)
                ],
                "infra_blessing": [
                    _artifact(standard_artifacts.InfraBlessing, tmp_path, infra_blessed)
                ],
            },
            {"pushed_model": [pushed]},
            {"push_destination": proto_utils.proto_to_json(destination)},
        )
        return pushed, base

    return call


def test_a_blessed_model_is_pushed(run):
    pushed, base = run(True, True)
    version = pushed.get_string_custom_property("pushed_version")
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(base / version)
    assert (base / version / "saved_model.pb").read_text() == "graph"


@pytest.mark.parametrize(("model_blessed", "infra_blessed"), [(True, False), (False, True)])
def test_both_blessings_are_needed(run, model_blessed, infra_blessed):
    pushed, base = run(model_blessed, infra_blessed)
    assert pushed.get_int_custom_property("pushed") == 0
    assert not base.exists()


def test_a_model_that_was_withdrawn_is_not_pushed_and_the_artifact_says_so(run, tmp_path):
    write_manifest(str(tmp_path / "model" / "Format-Serving"), {"run_key": "a"})
    pushed, base = run(True, True)
    version = int(pushed.get_string_custom_property("pushed_version"))
    other = base / str(version - 1)
    shutil.copytree(base / str(version), other)
    release_file.change(
        base,
        lambda s: release_changes.roll_back(s, [version - 1, version], by="ann", reason="bad"),
    )
    again, _ = run(True, True)
    assert again.get_int_custom_property("pushed") == 0
    assert again.get_string_custom_property("withdrawn_version") == str(version)
    reason = again.get_string_custom_property("not_pushed_because")
    assert f"Version {version} in {base} holds this model and was withdrawn" in reason
    assert sorted(p.name for p in base.iterdir() if p.name.isdigit()) == [other.name, str(version)]
