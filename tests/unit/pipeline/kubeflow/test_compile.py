import json
import re
from typing import Any

import pydantic
import pytest
import yaml
from google.protobuf import json_format

from contract.config_types import from_dict
from pipeline.config import ConfigError, RunConfig
from pipeline.kubeflow import parameters, spec
from pipeline.kubeflow.compile import compile_pipeline

_IMAGE = "registry/mind@sha256:" + "0" * 64
_CONFIG: dict[str, Any] = {
    "name": "tiny",
    "data": {"interactions": {"files": ["s3://data/{SPAN}/*.parquet"]}},
}


def _config(**sections: Any) -> RunConfig:
    return from_dict(RunConfig, {**_CONFIG, **sections})


def _kubeflow(**fields: Any) -> RunConfig:
    return _config(kubeflow=fields)


@pytest.fixture(scope="module")
def compiled():
    return compile_pipeline(_config(), _IMAGE)


@pytest.fixture(scope="module")
def pipeline(compiled):
    return spec.parse(compiled.to_yaml())


def _containers(pipeline):
    return {
        name: pipeline.deployment.executors[
            pipeline.spec.components[task.component_ref.name].executor_label
        ].container
        for name, task in pipeline.spec.root.dag.tasks.items()
    }


def _tasks(config, **options):
    return spec.parse(compile_pipeline(config, _IMAGE, **options).to_yaml()).spec.root.dag.tasks


def test_every_step_runs_the_entry_point_in_the_given_image(pipeline):
    containers = _containers(pipeline)
    assert len(containers) > 10
    for container in containers.values():
        assert list(container.command) == ["python", "-m", "pipeline.kubeflow.entrypoint"]
        assert container.image == _IMAGE
        assert "--remote_artifacts" not in container.args


def test_ids_are_hyphenated(pipeline):
    for name in pipeline.spec.root.dag.tasks:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


def test_parameters_keep_their_defaults(pipeline):
    assert spec.parameter_values(pipeline, {}, with_defaults=True) == {
        "interaction_files": ["s3://data/{SPAN}/*.parquet"],
        "span": "",
        "data_version": "",
        "training_max_steps": 20_000,
        "min_lift_over_popularity": 0.0,
        "max_drop_from_pushed": 0.01,
        "push_destination": "s3://mlpipeline/v2/artifacts/storage/serving_models/tiny",
        "baseline_version": "",
    }


_OVERRIDES = {
    "interaction_files": (
        ["a.csv", "b.csv"],
        {"data": {"interactions": {"files": ["a.csv", "b.csv"]}}},
    ),
    "training_max_steps": (7.0, {"training": {"max_steps": 7}}),
    "min_lift_over_popularity": (0.25, {"evaluation": {"min_lift_over_popularity": 0.25}}),
    "max_drop_from_pushed": (0.0, {"evaluation": {"max_drop_from_pushed": 0.0}}),
    "push_destination": ("s3://b/models", {"push": {"destination": "s3://b/models"}}),
}


@pytest.mark.parametrize("name", _OVERRIDES)
def test_parameter_of_a_run_is_the_same_as_configuring_it(pipeline, name):
    """What a step gets with the parameter is what compiling with that value gives it."""
    value, sections = _OVERRIDES[name]
    configured = spec.parse(compile_pipeline(_config(**sections), _IMAGE).to_yaml())
    compared = 0
    for step, container in _containers(pipeline).items():
        given = _properties(pipeline, step)
        arguments = list(container.args)
        if "--runtime_parameters" in arguments:
            bindings = parameters.StepBindings.from_json(
                arguments[arguments.index("--runtime_parameters") + 1]
            )
            compared += name in bindings.parameters
            given = parameters.apply(given, bindings, {name: value})
        assert _without_run_key(given) == _without_run_key(_properties(configured, step)), step
    assert compared


def _properties(pipeline, step):
    inputs = pipeline.spec.root.dag.tasks[step].inputs.parameters
    return {
        name: json_format.MessageToDict(value.runtime_value.constant)
        for name, value in inputs.items()
        if value.HasField("runtime_value")
    }


def _without_run_key(properties):
    """Run keys are 16 hex digits and only have to differ, see test_parameters."""
    return {
        name: json.loads(re.sub(r"\b[0-9a-f]{16}\b", "KEY", value))
        if isinstance(value, str) and value.startswith("{")
        else re.sub(r"\b[0-9a-f]{16}\b", "KEY", str(value))
        for name, value in properties.items()
    }


def test_what_reads_the_outside_world_is_not_cached(pipeline):
    uncached = {
        name
        for name, task in pipeline.spec.root.dag.tasks.items()
        if not task.caching_options.enable_cache
    }
    assert uncached == {"example-gen", "last-pushed", "pusher"}


_WINDOW = {"retry_within_hours": 36.0}


def test_every_retry_has_a_limit_of_its_duration(pipeline):
    """Without one, Kubeflow 2.14 and later start no second attempt."""
    policies = [t.retry_policy for t in pipeline.spec.root.dag.tasks.values()]
    retried = [policy for policy in policies if policy.max_retry_count]
    assert retried
    assert {policy.backoff_max_duration.seconds for policy in retried} == {7 * 24 * 3600}


def test_what_looks_at_the_push_destination_is_never_cached():
    """A configured step replaces its default whole, so ``cache`` is true here."""
    tasks = _tasks(_kubeflow(steps={"pusher": {"cpu": 2.0}, "last-pushed": {"cache": True}}))
    for name in ("pusher", "last-pushed"):
        assert not tasks[name].caching_options.enable_cache


def test_needs_of_steps_come_from_the_configuration():
    config = _kubeflow(
        trainer_gpus=2,
        default_step={"cpu": 0.5},
        steps={"trainer": {"cpu": 3.5, "memory_gb": 10.0, "retries": 4, "cache": False, **_WINDOW}},
    )
    pipeline = spec.parse(compile_pipeline(config, _IMAGE).to_yaml())
    trainer = _containers(pipeline)["trainer"].resources
    assert (trainer.cpu_limit, trainer.cpu_request) == (3.5, 3.5)
    assert (trainer.resource_cpu_limit, trainer.resource_memory_request) == ("3.5", "10G")
    assert (trainer.accelerator.type, trainer.accelerator.count) == ("nvidia.com/gpu", 2)
    task = pipeline.spec.root.dag.tasks["trainer"]
    assert task.retry_policy.max_retry_count == 4
    assert task.retry_policy.backoff_duration.seconds == 60
    assert task.retry_policy.backoff_max_duration.seconds == 36 * 3600
    assert not task.caching_options.enable_cache
    assert _containers(pipeline)["schema"].resources.resource_cpu_limit == "0.5"
    assert not _containers(pipeline)["schema"].resources.memory_limit
    with_gpu = [n for n, c in _containers(pipeline).items() if c.resources.HasField("accelerator")]
    assert with_gpu == ["trainer"]


def test_both_steps_that_train_get_the_accelerators_and_the_keys_of_the_run():
    config = _config(training={"train_on_all": True}, kubeflow={"trainer_gpus": 1})
    pipeline = spec.parse(compile_pipeline(config, _IMAGE).to_yaml())
    containers = _containers(pipeline)
    with_gpu = {name for name, c in containers.items() if c.resources.HasField("accelerator")}
    assert with_gpu == {"trainer", "final-trainer"}
    for name in with_gpu:
        arguments = list(containers[name].args)
        text = arguments[arguments.index("--runtime_parameters") + 1]
        assert "training_max_steps" in parameters.StepBindings.from_json(text).parameters, name


def test_unknown_step_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no step 'trainr'. Did you mean 'trainer'"):
        compile_pipeline(_kubeflow(steps={"trainr": {}}), _IMAGE)


def test_s3_credentials_come_from_the_secret(compiled, pipeline):
    executors = compiled.platform_spec["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(pipeline.deployment.executors)
    (secret,) = executors["pusher_executor"]["secretAsEnv"]
    assert secret["secretName"] == "mlpipeline-minio-artifact"
    assert {k["envVar"] for k in secret["keyToEnv"]} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }


def _environment(pipeline, step="pusher"):
    return {e.name: e.value for e in _containers(pipeline)[step].env}


def test_steps_find_the_store_unless_it_is_given(pipeline):
    """Which store Kubeflow installs depends on its version; no name is compiled in."""
    assert _environment(pipeline).keys() == {"AWS_REGION", "AWS_DEFAULT_REGION"}
    assert all("--find_object_store" in c.args for c in _containers(pipeline).values())


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://store:9000", {"S3_ENDPOINT", "AWS_ENDPOINT_URL"}),
        ("aws", set()),
    ],
)
def test_a_given_store_is_compiled_in(endpoint, expected):
    compiled = compile_pipeline(_kubeflow(object_store={"endpoint": endpoint}), _IMAGE)
    pipeline = spec.parse(compiled.to_yaml())
    environment = _environment(pipeline)
    assert environment.keys() == {"AWS_REGION", "AWS_DEFAULT_REGION"} | expected
    assert {environment[name] for name in expected} <= {endpoint}
    assert not any("--find_object_store" in c.args for c in _containers(pipeline).values())


def test_steps_that_open_remote_artifacts_need_the_store_even_beside_a_volume():
    config = _kubeflow(
        storage_root="/mind",
        volumes=[{"claim": "mind-storage", "mount_path": "/mind"}],
        remote_artifacts=True,
    )
    pipeline = spec.parse(compile_pipeline(config, _IMAGE).to_yaml())
    assert all("--find_object_store" in c.args for c in _containers(pipeline).values())


@pytest.mark.parametrize("endpoint", ["minio:9000", "s3.amazonaws.com"])
def test_an_endpoint_is_a_url(endpoint):
    with pytest.raises(pydantic.ValidationError, match="endpoint"):
        _kubeflow(object_store={"endpoint": endpoint})


def test_gcs_needs_no_s3_credentials():
    compiled = compile_pipeline(_config(), _IMAGE, pipeline_root="gs://bucket/root")
    assert compiled.platform_spec == {}
    assert not _containers(spec.parse(compiled.to_yaml()))["pusher"].env
    assert compiled.pipeline_spec["defaultPipelineRoot"] == "gs://bucket/root"


def test_volumes_are_mounted_and_their_paths_written_directly():
    config = _kubeflow(
        storage_root="/mind", volumes=[{"claim": "mind-storage", "mount_path": "/mind"}]
    )
    compiled = compile_pipeline(config, _IMAGE)
    executors = compiled.platform_spec["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["trainer_executor"] == {
        "pvcMount": [{"constant": "mind-storage", "mountPath": "/mind"}]
    }
    values = spec.parameter_values(spec.parse(compiled.to_yaml()), {}, with_defaults=True)
    assert values["push_destination"] == "/mind/serving_models/tiny"


def test_vertex_opens_artifacts_itself_and_has_no_kubernetes_part():
    compiled = compile_pipeline(_config(), _IMAGE, "vertex", "gs://bucket/root")
    for container in _containers(spec.parse(compiled.to_yaml())).values():
        assert "--remote_artifacts" in container.args
    assert compiled.platform_spec == {}


@pytest.mark.parametrize("root", ["", "s3://bucket/root"])
def test_vertex_needs_gcs(root):
    with pytest.raises(ConfigError, match="expected gs://BUCKET/FOLDER"):
        compile_pipeline(_config(), _IMAGE, "vertex", root)


def test_beam_options_and_remote_artifacts_reach_beam_steps():
    config = _kubeflow(beam_args=["--runner=FlinkRunner"], remote_artifacts=True)
    containers = _containers(spec.parse(compile_pipeline(config, _IMAGE).to_yaml()))
    assert "--runner=FlinkRunner" in containers["transform"].args
    assert "--remote_artifacts" in containers["transform"].args


def test_compiling_twice_gives_the_same_file(compiled):
    assert compile_pipeline(_config(), _IMAGE).to_yaml() == compiled.to_yaml()


def test_file_name_is_checked_and_the_file_read_back(compiled, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.yaml"):
        compiled.write(tmp_path / "tiny.json")
    path = compiled.write(tmp_path / "new" / "tiny.yaml")
    assert next(yaml.safe_load_all(path.read_text())) == compiled.pipeline_spec


def test_a_window_of_spans_and_a_warm_start_compile():
    config = _config(
        data={
            **_CONFIG["data"],
            "window": {"spans": 7},
            "split": {"protocol": "newest_span"},
        },
        training={"warm_start": {"steps": 5}},
    )
    compiled = spec.parse(compile_pipeline(config, _IMAGE).to_yaml())
    base = compiled.spec.root.dag.tasks["trainer"].inputs.artifacts["base_model"]
    assert base.task_output_artifact.producer_task == "last-pushed"
    arguments = list(_containers(compiled)["example-gen"].args)
    bindings = parameters.StepBindings.from_json(
        arguments[arguments.index("--runtime_parameters") + 1]
    )
    given = parameters.apply(_properties(compiled, "example-gen"), bindings, {"span": "2026-11-26"})
    assert given["span"] == "2026-11-26"
    assert json.loads(given["data_config"])["window"] == {"gaps": "fail", "spans": 7}
