from typing import Any

import pytest

from pipeline.kubeflow import spec
from tests.unit.pipeline.kubeflow.pipelines import to_yaml, two_steps


def _pipeline() -> dict[str, Any]:
    return two_steps(["true"], ["true"])


def _parse() -> spec.PipelineFile:
    return spec.parse(to_yaml(_pipeline()))


def test_valid_pipeline_with_platform_spec():
    platform = {
        "platforms": {
            "kubernetes": {"deploymentSpec": {"executors": {"first_executor": {"secretAsEnv": []}}}}
        }
    }
    parsed = spec.parse(to_yaml(_pipeline(), platform))
    assert set(parsed.deployment.executors) == {"first_executor", "second_executor"}
    assert list(parsed.platform.platforms) == ["kubernetes"]


def _set(path: str, value: Any) -> dict[str, Any]:
    pipeline = _pipeline()
    node = pipeline
    *parents, last = path.split("/")
    for key in parents:
        node = node[key]
    node[last] = value
    return pipeline


_TASKS = "root/dag/tasks"


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (_set("schemaVersion", "2.0.0"), "only supports schema version 2.1.0.* has version 2.0.0"),
        (_set("pipelineInfo", {"name": "Tiny_pipeline"}), "pipeline name 'Tiny_pipeline'"),
        (_set("unknownField", 1), "invalid v2 pipeline spec.*unknownField"),
        (_set("root/dag/tasks", {}), "root component is empty"),
        (_set(f"{_TASKS}/first/dependentTasks", ["zeroth"]), "depends on unknown task 'zeroth'"),
        (_set(f"{_TASKS}/first/componentRef", {"name": "x"}), "unknown component 'x'"),
        (
            _set(f"{_TASKS}/first/inputs/parameters/other", {"componentInputParameter": "steps"}),
            "its component has no parameter 'other'",
        ),
        (
            _set(f"{_TASKS}/first/inputs/parameters/steps", {"componentInputParameter": "no"}),
            "unknown pipeline parameter 'no'",
        ),
        (
            _set(
                f"{_TASKS}/second/inputs/artifacts/data",
                {"taskOutputArtifact": {"producerTask": "first", "outputArtifactKey": "no"}},
            ),
            "input data comes from unknown first.no",
        ),
        (
            _set("deploymentSpec/executors/first_executor", {"resolver": {}}),
            "resolver executors are not implemented",
        ),
        (
            _set("deploymentSpec/executors/first_executor/container/command", []),
            "command and arguments are empty",
        ),
        (_set("components/first/executorLabel", "gone"), "first: unknown executor 'gone'"),
    ],
)
def test_refuses_what_the_server_refuses(pipeline, message):
    with pytest.raises(spec.SpecError, match=message):
        spec.parse(to_yaml(pipeline))


def test_refuses_underscore_in_a_task_name():
    pipeline = _pipeline()
    tasks = pipeline["root"]["dag"]["tasks"]
    tasks["my_task"] = tasks.pop("second")
    with pytest.raises(spec.SpecError, match="'my_task'"):
        spec.parse(to_yaml(pipeline))


def test_refuses_a_pipeline_job():
    with pytest.raises(spec.SpecError, match="one document with pipelineInfo, received 0"):
        spec.parse(to_yaml({"pipelineSpec": _pipeline()}))


def test_refuses_platform_spec_of_unknown_executor():
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"x": {}}}}}}
    with pytest.raises(spec.SpecError, match="unknown executors x"):
        spec.parse(to_yaml(_pipeline(), platform))


def test_defaults_stand_for_what_is_not_given():
    values = spec.parameter_values(_parse(), {"steps": 3}, with_defaults=True)
    assert values == {"files": ["a"], "rate": 0.5, "steps": 3, "text": ""}


def test_only_given_values_are_sent_without_defaults():
    assert spec.parameter_values(_parse(), {"steps": 3}) == {"steps": 3}


def test_parameter_without_value_or_default_is_refused():
    pipeline = _pipeline()
    del pipeline["root"]["inputDefinitions"]["parameters"]["text"]["defaultValue"]
    with pytest.raises(spec.SpecError, match="text has neither a value nor a default"):
        spec.parameter_values(spec.parse(to_yaml(pipeline)), {})


def test_text_is_read_by_the_type_of_the_parameter():
    values = spec.parse_parameters(
        _parse(), ["steps=7", "rate=1e-3", 'files=["x,y", "z=1"]', "text=2026"]
    )
    assert values == {"steps": 7, "rate": 0.001, "files": ["x,y", "z=1"], "text": "2026"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps=many", "steps: expected NUMBER_INTEGER, received 'many'"),
        ("steps=1.5", "steps: expected NUMBER_INTEGER, received 1.5"),
        ("steps=true", "steps: expected NUMBER_INTEGER, received True"),
        ("files=a.csv", "files: expected LIST, received 'a.csv'"),
        ("unknown=1", "parameter unknown is not one of this pipeline's: files, rate, steps, text"),
        ("steps", "expected NAME=VALUE"),
    ],
)
def test_refuses_values_of_another_type(text, message):
    with pytest.raises(spec.SpecError, match=message):
        spec.parse_parameters(_parse(), [text])
