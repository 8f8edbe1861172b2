"""IndexBuilder through its executor: artifacts in, a described bundle out."""

import json
from pathlib import Path

import pytest
from tfx.types import Channel, standard_artifacts

from components.index_builder.component import IndexBuilder
from components.index_builder.executor import Executor
from contract.config_types import to_json
from contract.manifest import MANIFEST_PATH
from retrieval.config import IndexConfig
from retrieval.manifest import missing_files
from tests.synthetic_inputs import DIM, model_artifact, write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_the_manifest_describes_run_catalogue_and_index(kind, inputs, tmp_path):
    trained, examples = inputs
    spans = [{"name": "1"}, {"name": "2"}]
    report = {
        **({"window": {"spans": spans}} if kind == "exact" else {}),
        "time": {"first": 10, "last": 20},
        "events": {"kept": 300, "valid": 400},
        "users": {"kept": 30, "read": 40},
        "catalogue": {"items": 2000},
        "splits": {"train": {"sequences": 20, "rows": 25}, "rest": {"sequences": 9}},
    }
    (Path(examples.uri) / "ingest_report.json").write_text(json.dumps(report))
    trained.set_int_custom_property("steps_on_all", 7)
    trained.set_string_custom_property("judged_model", "/judged")
    config = IndexConfig(kind=kind, recall_k=50, recall_target=0.95, num_queries=60)
    Executor().Do(
        {"trained_model": [trained], "examples": [examples]},
        {"model": [model_artifact(tmp_path)]},
        {
            "index_config": to_json(config),
            "manifest": json.dumps({"run_key": "abc", "data_digest": "d"}),
            "source_digest": "s",
        },
    )
    model_dir = tmp_path / "Format-Serving"
    manifest = json.loads((model_dir / MANIFEST_PATH).read_text())
    assert (manifest["run_key"], manifest["data_digest"]) == ("abc", "d")
    assert (manifest["steps_on_all"], manifest["judged_model"]) == (7, "/judged")
    assert manifest["data"] == {
        **({"window": {"first": "1", "last": "2", "spans": 2}} if kind == "exact" else {}),
        "time": {"first": 10, "last": 20},
        "events": 300,
        "people": 30,
        "items": 2000,
        "sequences": {"train": 20},
    }
    assert "| Events | 300 |" in (model_dir / "assets.extra" / "model_card.md").read_text()
    assert manifest["catalogue"] == {"items": 2000, "retrievable": 1995, "dimensions": DIM}
    assert "saved_model.pb" in manifest["files"]
    assert missing_files(str(model_dir)) == []
    index = manifest["index"]
    if kind == "exact":
        assert index == {"algorithm": "exact", "curve": [], "recall": 1.0, "recall_k": 50}
    else:
        assert index["algorithm"] == "scann_ah"
        assert index["reorder"] in [point["reorder"] for point in index["curve"]]
        chosen = [point for point in index["curve"] if point["reorder"] == index["reorder"]]
        assert chosen[0]["recall"] == index["recall"] > 0.95


def test_the_component_checks_its_channels():
    model = Channel(type=standard_artifacts.Model)
    examples = Channel(type=standard_artifacts.Examples)
    texts = {"index_config": "{}", "manifest": "{}", "source_digest": ""}
    builder = IndexBuilder(model=model, examples=examples, **texts)
    assert builder.outputs["model"].type is standard_artifacts.Model
    with pytest.raises(TypeError):
        IndexBuilder(model=examples, examples=examples, **texts)
