"""IndexValidator through its executor: what it measures, what it blesses."""

import json
import shutil

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from components.example_files import split_files
from components.index_validator.executor import VALIDATION_FILE, Executor
from contract.config_types import to_json
from contract.manifest import MANIFEST_PATH
from retrieval.build import build_bundle
from retrieval.config import IndexConfig
from tests.synthetic_inputs import model_artifact, write_inputs

_SETTINGS = {"recall_k": 50, "recall_target": 0.95, "num_queries": 60}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Root directory with a bundle per kind, and the examples."""
    root = tmp_path_factory.mktemp("bundles")
    _, examples = write_inputs(root)
    for kind in ("exact", "scann"):
        build_bundle(
            str(root / "trainer" / "Format-Serving"),
            split_files([examples], "eval"),
            str(root / kind / "Format-Serving"),
            IndexConfig(kind=kind, **_SETTINGS),
            {},
        )
    return root, examples


def _validate(model_dir, examples, config, output):
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(output)
    Executor().Do(
        {"model": [model_artifact(model_dir)], "examples": [examples]},
        {"blessing": [blessing]},
        {"index_config": to_json(config), "source_digest": "s"},
    )
    return blessing, json.loads((output / VALIDATION_FILE).read_text())


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_good_bundle_is_blessed_as_the_pusher_expects(kind, bundles, tmp_path):
    root, examples = bundles
    blessing, validation = _validate(
        root / kind, examples, IndexConfig(kind=kind, **_SETTINGS), tmp_path
    )
    assert blessing.get_int_custom_property("blessed") == 1
    assert (tmp_path / "INFRA_BLESSED").exists()
    assert validation["blessed"]
    assert validation["reasons"] == []
    assert validation["recall_k"] == 50
    assert 40 <= validation["recall_people"] <= 60
    assert validation["recall"] >= (1.0 if kind == "exact" else 0.95)
    assert 0 < validation["latency_ms"]["p50"] <= validation["latency_ms"]["p99"]
    files = [path for path in (root / kind).rglob("*") if path.is_file()]
    assert validation["bytes"] == sum(path.stat().st_size for path in files)


def _assert_refused(blessing, validation, output, reason):
    assert blessing.get_int_custom_property("blessed") == 0
    assert (output / "INFRA_NOT_BLESSED").exists()
    assert not (output / "INFRA_BLESSED").exists()
    assert not validation["blessed"]
    assert len(validation["reasons"]) == 1
    assert reason in validation["reasons"][0]


def test_an_index_that_finds_too_little_is_refused(bundles, tmp_path):
    root, examples = bundles
    loaded = tf.saved_model.load(str(root / "scann" / "Format-Serving"))
    loaded.search.reorder.assign(1)
    tf.saved_model.save(
        loaded, str(tmp_path / "Format-Serving"), signatures=dict(loaded.signatures)
    )
    blessing, validation = _validate(tmp_path, examples, IndexConfig(**_SETTINGS), tmp_path)
    _assert_refused(blessing, validation, tmp_path, "below the target of 0.95")


def test_a_slow_index_is_refused_if_a_limit_is_set(bundles, tmp_path):
    root, examples = bundles
    config = IndexConfig(kind="exact", max_latency_ms=1e-6, **_SETTINGS)
    blessing, validation = _validate(root / "exact", examples, config, tmp_path)
    _assert_refused(blessing, validation, tmp_path, "above max_latency_ms of 1e-06")


def test_a_bundle_that_lacks_a_file_is_refused(bundles, tmp_path):
    root, examples = bundles
    shutil.copytree(root / "exact", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "Format-Serving" / MANIFEST_PATH
    manifest = json.loads(path.read_text())
    manifest["files"]["variables/gone"] = {"bytes": 1, "sha256": ""}
    path.write_text(json.dumps(manifest))
    config = IndexConfig(kind="exact", **_SETTINGS)
    blessing, validation = _validate(tmp_path, examples, config, tmp_path)
    _assert_refused(blessing, validation, tmp_path, "variables/gone")
