"""Steps whose artifacts are in an object store, with no copy on the local disk."""

import json

import pytest
import tensorflow as tf
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.utils import io_utils, proto_utils

from components.index_builder import executor as index_builder
from components.index_validator import executor as index_validator
from components.last_pushed.component import LastPushedModel
from components.pusher import executor as pusher
from contract.config_types import to_json
from retrieval.config import IndexConfig
from retrieval.manifest import list_files, total_bytes
from retrieval.versions import complete_versions
from tests.synthetic_inputs import model_artifact, write_inputs
from tests.unit.components.example_gen.ingestion import read_splits, run_example_gen

_INDEX = to_json(IndexConfig(kind="exact", recall_k=50, num_queries=60))


def _artifact(artifact_type, uri):
    artifact = artifact_type()
    artifact.uri = uri
    return artifact


@pytest.fixture
def inputs(tmp_path, object_store):
    """A trained model and examples in the object store."""
    trained, examples = write_inputs(tmp_path)
    for artifact, name in ((trained, "trained"), (examples, "examples")):
        io_utils.copy_dir(artifact.uri, f"{object_store}/{name}")
        artifact.uri = f"{object_store}/{name}"
    return trained, examples


def _build(trained, examples, uri):
    bundle = model_artifact(uri)
    index_builder.Executor().Do(
        {"trained_model": [trained], "examples": [examples]},
        {"model": [bundle]},
        {"index_config": _INDEX, "manifest": json.dumps({"run_key": "a"}), "source_digest": ""},
    )
    return bundle


def _validate(bundle, examples, uri):
    blessing = _artifact(standard_artifacts.InfraBlessing, uri)
    index_validator.Executor().Do(
        {"model": [bundle], "examples": [examples]},
        {"blessing": [blessing]},
        {"index_config": _INDEX, "source_digest": ""},
    )
    return blessing


def _push(bundle, blessing, uri, destination):
    pushed = _artifact(standard_artifacts.PushedModel, uri)
    filesystem = tfx.proto.PushDestination.Filesystem(base_directory=destination)
    pusher.Executor().Do(
        {"model": [bundle], "infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {
            "push_destination": proto_utils.proto_to_json(
                tfx.proto.PushDestination(filesystem=filesystem)
            )
        },
    )
    return pushed.get_string_custom_property("pushed_version")


@pytest.mark.parametrize("remote_destination", [True, False], ids=["remote", "local"])
def test_a_bundle_is_built_validated_pushed_and_read_again(
    remote_destination, inputs, object_store, tmp_path
):
    trained, examples = inputs
    bundle = _build(trained, examples, f"{object_store}/bundle")
    blessing = _validate(bundle, examples, f"{object_store}/blessing")
    assert blessing.get_int_custom_property("blessed") == 1
    with fileio.open(f"{blessing.uri}/{index_validator.VALIDATION_FILE}") as file:
        assert json.loads(file.read())["bytes"] == total_bytes(bundle.uri) > 0

    destination = f"{object_store}/pushed" if remote_destination else str(tmp_path / "pushed")
    version = _push(bundle, blessing, f"{object_store}/push", destination)
    assert complete_versions(destination) == [version]

    baseline = model_artifact(f"{object_store}/baseline")
    LastPushedModel.test_call(
        fallback_model=trained,
        model=baseline,
        push_destination=destination,
        version="",
        run_key="another",
        source_digest="",
    )
    assert baseline.get_string_custom_property("version") == version
    assert list_files(baseline.uri) == list_files(bundle.uri)


def test_example_gen_leaves_its_splits_and_report_and_nothing_else(
    tmp_path, object_store, monkeypatch
):
    make_directories = tf.io.gfile.makedirs
    # A directory of an object store is gone when its last file is, as if never made.
    monkeypatch.setattr(
        tf.io.gfile, "makedirs", lambda path: path.endswith("/.temp") or make_directories(path)
    )
    log = tmp_path / "log.csv"
    rows = [f"u{user},i{item},{item}" for user in range(4) for item in range(5)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    examples = _artifact(standard_artifacts.Examples, f"{object_store}/examples")
    run_example_gen(examples, tmp_path / "bad", interactions={"files": [str(log)]})
    files = list_files(examples.uri)
    assert "ingest_report.json" in files
    assert {name.partition("/")[0] for name in files} == {
        "ingest_report.json",
        *(f"Split-{split}" for split in ("train", "eval", "test", "catalog")),
    }
    assert len(read_splits(examples.uri)["test"]) == 4
