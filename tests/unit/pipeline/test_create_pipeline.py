"""The DAG and what its cache keys depend on."""

import dataclasses
import json
import re

import pytest

from components.example_gen.config import FeatureConfig, ItemsConfig
from pipeline import config as config_lib
from pipeline.create_pipeline import create_pipeline
from pipeline.target import local_target

_NODES = {
    "example-gen",
    "statistics-gen",
    "schema",
    "example-validator",
    "anomaly-gate",
    "transform",
    "baseline-builder",
    "trainer",
    "last-pushed",
    "evaluator",
    "item-knn-evaluator",
    "index-builder",
    "index-validator",
    "pusher",
}


@pytest.fixture
def config(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n1,2,3\n")
    return config_lib.load(
        None, (), {"data.interactions.files": [str(log)], "output_dir": str(tmp_path / "out")}
    )


def _nodes(config):
    return {node.id: node for node in create_pipeline(config, local_target(config)).components}


def _trainer_config(config):
    return json.loads(_nodes(config)["trainer"].exec_properties["custom_config"])


def test_nodes_have_ids_that_kubeflow_takes(config):
    nodes = _nodes(config)
    assert set(nodes) == _NODES
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) for name in nodes)


def test_nothing_is_computed_from_data_that_the_gate_has_not_passed(config):
    nodes = _nodes(config)
    assert nodes["anomaly-gate"] in nodes["transform"].upstream_nodes


def test_only_what_is_blessed_and_validated_is_pushed(config):
    upstream = {node.id for node in _nodes(config)["pusher"].upstream_nodes}
    assert upstream == {"evaluator", "index-builder", "index-validator"}


def test_item_knn_can_be_left_out(config):
    evaluation = dataclasses.replace(config.evaluation, item_knn=False)
    assert set(_nodes(dataclasses.replace(config, evaluation=evaluation))) == _NODES - {
        "item-knn-evaluator"
    }


def test_the_category_reaches_transform_and_trainer_without_side_features_too(config):
    features = {"genre": FeatureConfig(column="g"), "category": FeatureConfig(column="c")}
    files = config.data.interactions.files
    items = ItemsConfig(files=files, id_column="item_id", features=features)
    data = dataclasses.replace(config.data, items=items)
    model = dataclasses.replace(config.model, side_features=False)
    config = dataclasses.replace(config, data=data, model=model)
    given = _trainer_config(config)["preprocessing"]
    assert (given["category"], given["item_features"]) == ("category", {})


def test_validation_selects_by_what_the_evaluator_asks(config):
    evaluation = dataclasses.replace(config.evaluation, exclude_history=False, primary_cutoff=20)
    training = _trainer_config(dataclasses.replace(config, evaluation=evaluation))["training"]
    assert training["eval_exclude_history"] is False
    assert training["eval_cutoff"] == 20


def test_an_edited_index_does_not_train_again(config):
    other = dataclasses.replace(config, index=dataclasses.replace(config.index, default_k=7))
    assert _trainer_config(other) == _trainer_config(config)
    assert local_target(other).run_key != local_target(config).run_key


def test_edited_model_code_trains_again(config, monkeypatch):
    before = _trainer_config(config)["source_digest"]
    monkeypatch.setattr(
        "pipeline.create_pipeline.source_digest",
        lambda *places: "edited" if "model" in places else "same",
    )
    assert _trainer_config(config)["source_digest"] == "edited" != before


def test_changed_data_changes_every_key(config, tmp_path):
    before = local_target(config)
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,2,4\n")
    after = local_target(config)
    assert after.input_fingerprint != before.input_fingerprint
    assert after.run_key != before.run_key
    assert after.checkpoint_dir != before.checkpoint_dir


def test_moving_the_output_does_not_change_the_model(config, tmp_path):
    moved = dataclasses.replace(config, output_dir=str(tmp_path / "elsewhere"))
    assert local_target(moved).run_key == local_target(config).run_key
