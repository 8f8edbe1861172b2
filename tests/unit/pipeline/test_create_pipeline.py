"""The DAG and what its cache keys depend on."""

import dataclasses
import json
import re
import shutil

import pytest

from components.example_gen.config import FeatureConfig, ItemsConfig
from model.config import WarmStartConfig
from pipeline import config as config_lib
from pipeline import source_digest
from pipeline.create_pipeline import create_pipeline
from pipeline.kubeflow.target import kfp_target
from pipeline.target import local_target

_NODES = {
    "example-gen",
    "statistics-gen",
    "schema",
    "example-validator",
    "anomaly-gate",
    "data-gate",
    "transform",
    "baseline-builder",
    "trainer",
    "last-pushed",
    "evaluator",
    "item-knn-evaluator",
    "model-gate",
    "index-builder",
    "index-validator",
    "pusher",
}


_PACKAGES = ("components", "contract", "model", "pipeline", "report", "retrieval")


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


def test_the_trainer_insists_on_gpus_on_kubeflow_only(config):
    config = dataclasses.replace(
        config, kubeflow=dataclasses.replace(config.kubeflow, trainer_gpus=2)
    )
    assert _trainer_config(config)["num_accelerators"] == 0
    nodes = create_pipeline(config, kfp_target(config)).components
    (trainer,) = (node for node in nodes if node.id == "trainer")
    assert json.loads(trainer.exec_properties["custom_config"])["num_accelerators"] == 2


def test_nothing_is_computed_from_data_that_the_gate_has_not_passed(config):
    nodes = _nodes(config)
    gates = {nodes["anomaly-gate"], nodes["data-gate"]}
    assert gates <= set(nodes["transform"].upstream_nodes)


def test_only_what_is_blessed_and_validated_is_pushed(config):
    upstream = {node.id for node in _nodes(config)["pusher"].upstream_nodes}
    assert upstream == {"model-gate", "index-builder", "index-validator"}


@pytest.fixture
def config_on_all(config):
    training = dataclasses.replace(config.training, train_on_all=True)
    return dataclasses.replace(config, training=training)


def test_what_is_trained_on_all_is_judged_before_and_looked_at_after(config_on_all):
    nodes = _nodes(config_on_all)
    assert set(nodes) == _NODES | {"final-trainer", "final-evaluator", "final-gate"}
    sources = {
        name: {key: channel.producer_component_id for key, channel in nodes[name].inputs.items()}
        for name in nodes
    }
    assert sources["evaluator"]["model"] == "trainer"
    final = sources["final-trainer"]
    assert (final["judged_model"], final["judged_run"]) == ("trainer", "trainer")
    assert final["model_blessing"] == "model-gate"
    assert sources["final-evaluator"]["model"] == "final-trainer"
    assert sources["final-evaluator"]["baseline_model"] == "trainer"
    assert sources["final-gate"]["earlier_blessing"] == "model-gate"
    assert sources["final-gate"]["evaluator_blessing"] == "final-evaluator"
    assert sources["final-gate"]["model_run"] == "final-trainer"
    # What is served is the final model; the metrics beside it are those of the judged one.
    assert sources["index-builder"]["trained_model"] == "final-trainer"
    assert sources["index-builder"]["evaluation"] == "evaluator"
    upstream = {node.id for node in nodes["pusher"].upstream_nodes}
    assert upstream == {"final-gate", "index-builder", "index-validator"}


def test_the_split_to_train_on_is_written_only_if_it_is_asked_for(config, config_on_all):
    def splits(chosen):
        nodes = _nodes(chosen)
        transformed = json.loads(nodes["transform"].exec_properties["splits_config"])["transform"]
        return nodes["example-gen"].exec_properties["with_rest"], "rest" in transformed

    assert splits(config) == (0, False)
    assert splits(config_on_all) == (1, True)


@pytest.mark.parametrize(
    ("file", "runs"),
    [
        ("model/tfx_functions/final_training.py", {"final-trainer"}),
        ("model/training/loop.py", {"final-trainer", "trainer"}),
        ("components/model_gate/rails.py", {"final-gate", "model-gate"}),
    ],
)
def test_an_edited_file_misses_the_cache_of_the_steps_on_all(file, runs, config_on_all, edit):
    before = _parameters(config_on_all)
    edit(file)
    after = _parameters(config_on_all)
    changed = {name for name in after if after[name] != before[name]}
    assert changed - _OF_THE_RUN == runs


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


# What carries the run key.
_OF_THE_RUN = {"last-pushed", "index-builder"}


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Appends a comment to a file, in a copy of the project whose digests are taken."""
    copy = tmp_path / "project"
    for name in _PACKAGES:
        shutil.copytree(
            source_digest.PROJECT_ROOT / name,
            copy / name,
            ignore=lambda folder, names: [
                n for n in names if n == "__pycache__" or ("." in n and not n.endswith(".py"))
            ],
        )
    monkeypatch.setattr(source_digest, "PROJECT_ROOT", copy)

    def append_comment(name):
        with (copy / name).open("a") as file:
            file.write("\n# edited\n")

    return append_comment


def _parameters(config):
    return {name: node.exec_properties for name, node in _nodes(config).items()}


@pytest.mark.parametrize(
    ("file", "nodes"),
    [
        ("components/example_gen/text.py", {"example-gen", "trainer"} | _OF_THE_RUN),
        ("components/schema_gen/infer.py", {"schema"} | _OF_THE_RUN),
        ("components/anomaly_gate/anomalies.py", {"anomaly-gate"}),
        ("components/data_gate/rails.py", {"data-gate"}),
        ("model/paired_test.py", {"model-gate", "trainer"} | _OF_THE_RUN),
        ("components/evaluator/results.py", {"model-gate"} | _OF_THE_RUN),
        (
            "model/tfx_functions/preprocessing.py",
            {"transform", "baseline-builder", "trainer"} | _OF_THE_RUN,
        ),
        ("model/network/capsule.py", {"trainer"} | _OF_THE_RUN),
        ("model/training/loop.py", {"trainer"} | _OF_THE_RUN),
        ("model/catalogue.py", {"trainer", "baseline-builder"} | _OF_THE_RUN),
        ("components/baseline/item_knn.py", {"baseline-builder"}),
        ("components/evaluator/metrics.py", {"evaluator", "item-knn-evaluator"}),
        ("retrieval/search.py", _OF_THE_RUN),
        ("retrieval/validation.py", {"index-validator"}),
        ("retrieval/versions.py", {"last-pushed", "pusher"}),
        ("components/last_pushed/component.py", {"last-pushed"}),
        ("retrieval/push.py", {"pusher"}),
        ("components/pusher/executor.py", {"pusher"}),
        (
            "contract/config_types.py",
            {"example-gen", "transform", "baseline-builder", "trainer", "index-validator"}
            | {"data-gate", "model-gate"}
            | _OF_THE_RUN,
        ),
        ("pipeline/create_pipeline.py", _OF_THE_RUN),
        ("pipeline/kubeflow/submit.py", set()),
        ("report/charts.py", set()),
    ],
)
def test_an_edited_file_misses_the_cache_of_the_steps_that_run_it(file, nodes, config, edit):
    before = _parameters(config)
    edit(file)
    after = _parameters(config)
    assert {name for name in after if after[name] != before[name]} == nodes


def test_the_training_goes_on_after_an_edit_of_other_code(config, edit):
    before = local_target(config)
    edit("retrieval/search.py")
    after = local_target(config)
    assert after.checkpoint_dir == before.checkpoint_dir
    assert after.run_key != before.run_key


def test_every_component_of_this_project_follows_its_executor(config, edit):
    before = _parameters(config)
    for name, node in _nodes(config).items():
        module = node.executor_spec.executor_class.__module__
        if module.startswith("components."):
            edit(f"{module.replace('.', '/')}.py")
            after = _parameters(config)
            assert after[name] != before[name], name
            before = after


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


def test_a_warm_start_goes_on_from_what_is_pushed(config):
    assert "base_model" not in _nodes(config)["trainer"].inputs
    training = dataclasses.replace(config.training, warm_start=WarmStartConfig())
    channel = _nodes(dataclasses.replace(config, training=training))["trainer"].inputs["base_model"]
    assert (channel.producer_component_id, channel.output_key) == ("last-pushed", "model")


def test_a_rail_can_ask_for_a_full_training_where_a_warm_start_is_wanted(config):
    rails = dataclasses.replace(config.guard_rails.data, full=("item_drift",))
    asked = dataclasses.replace(
        config, guard_rails=dataclasses.replace(config.guard_rails, data=rails)
    )
    assert set(_nodes(asked)) == _NODES
    training = dataclasses.replace(config.training, warm_start=WarmStartConfig())
    assert set(_nodes(dataclasses.replace(config, training=training))) == _NODES
    nodes = _nodes(dataclasses.replace(asked, training=training))
    assert set(nodes) == _NODES | {"training-plan"}
    channel = nodes["trainer"].inputs["hyperparameters"]
    assert (channel.producer_component_id, channel.output_key) == ("training-plan", "plan")
    assert nodes["training-plan"].inputs["findings"].producer_component_id == "data-gate"
