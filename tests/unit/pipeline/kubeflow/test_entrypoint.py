import json
import subprocess
import sys
from typing import Any, ClassVar

import pytest
from tfx.dsl.components.base import base_executor
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types import standard_artifacts

from pipeline.kubeflow import entrypoint
from pipeline.kubeflow.parameters import Binding, Place, StepBindings


class RecordingExecutor(base_executor.BaseExecutor):
    """Keeps what it is given; writes its output where it is told."""

    seen: ClassVar[dict[str, Any]] = {}

    def Do(self, input_dict, output_dict, exec_properties):
        model = output_dict["model"][0]
        RecordingExecutor.seen = {
            "input": input_dict["examples"][0].uri,
            "output": model.uri,
            "outputs": set(output_dict),
            "exec_properties": exec_properties,
        }
        model.set_int_custom_property("size", 7)


def _type(artifact):
    return {"instanceSchema": compiler_utils.get_artifact_schema(artifact).decode()}


def _executor_input(tmp_path):
    examples = {
        "name": "12",
        "uri": "minio://bucket/examples",
        "type": _type(standard_artifacts.Examples),
    }
    model = {"uri": "minio://bucket/task/model", "type": _type(standard_artifacts.Model)}
    logs = {"uri": "minio://bucket/task/executor-logs", "type": {"schemaTitle": "system.Artifact"}}
    return {
        "inputs": {
            "parameterValues": {
                "config": json.dumps({"training": {"max_steps": 100}}),
                "limit": 5.0,
                "pipelinechannel--training_max_steps": 3.0,
            },
            "artifacts": {"examples": {"artifacts": [examples]}},
        },
        "outputs": {
            "artifacts": {
                "model": {"artifacts": [model]},
                "executor-logs": {"artifacts": [logs]},
            },
            "outputFile": str(tmp_path / "output_metadata.json"),
        },
    }


_BINDINGS = StepBindings(
    {
        "training_max_steps": Binding(
            "NUMBER_INTEGER", 100, (), (Place(("config", "training", "max_steps")),)
        )
    },
    {},
)


def _run(executor_input, *extra):
    inputs_spec = {
        "parameters": {
            "config": {"parameterType": "STRING"},
            "limit": {"parameterType": "NUMBER_INTEGER"},
        }
    }
    entrypoint.main(
        [
            "--executor_class_path",
            f"{__name__}.RecordingExecutor",
            "--json_serialized_invocation_args",
            json.dumps(executor_input),
            "--json_serialized_inputs_spec_args",
            json.dumps(inputs_spec),
            "--runtime_parameters",
            _BINDINGS.to_json(),
            *extra,
        ]
    )
    return json.loads(open(executor_input["outputs"]["outputFile"]).read())


@pytest.fixture
def launcher_root(tmp_path, monkeypatch):
    monkeypatch.setenv("KFP_LAUNCHER_ROOT", str(tmp_path / "pod"))
    return tmp_path / "pod"


def test_executor_sees_local_files_and_this_runs_parameters(tmp_path, launcher_root):
    result = _run(_executor_input(tmp_path))
    assert RecordingExecutor.seen == {
        "input": f"{launcher_root}/minio/bucket/examples",
        "output": f"{launcher_root}/minio/bucket/task/model",
        "outputs": {"model"},
        "exec_properties": {"config": '{"training": {"max_steps": 3}}', "limit": 5},
    }
    (model,) = result["artifacts"]["model"]["artifacts"]
    assert model["uri"] == "minio://bucket/task/model"
    assert model["metadata"]["size"] == 7.0


def test_remote_artifacts_are_opened_in_the_store(tmp_path):
    """A directory stands in for the store: TFX reads and writes it without the launcher."""
    executor_input = _executor_input(tmp_path)
    store = tmp_path / "store"
    executor_input["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"] = f"{store}/examples"
    executor_input["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"] = f"{store}/task/model"
    result = _run(executor_input, "--remote_artifacts")
    assert RecordingExecutor.seen["output"] == f"{store}/task/model"
    assert result["artifacts"]["model"]["artifacts"][0]["uri"] == f"{store}/task/model"
    # Beside it: where TFX keeps temporary files that remote workers must see.
    assert (store / "task" / "executor_output.json").exists()


def test_remote_minio_is_opened_as_s3():
    executor_input = {
        "inputs": {"artifacts": {"a": {"artifacts": [{"uri": "minio://b/a"}]}}},
        "outputs": {"artifacts": {}, "outputFile": "/tmp/x"},
    }
    uris = entrypoint.open_artifacts(executor_input, remote=True)
    assert executor_input["inputs"]["artifacts"]["a"]["artifacts"][0]["uri"] == "s3://b/a"
    assert uris == {"s3://b/a": "minio://b/a"}


def test_exit_stops_what_was_to_stop_at_exit(tmp_path):
    """Beam stops its job server there; a server that lives on keeps the step from ending."""
    sign = tmp_path / "stopped"
    program = (
        "import atexit, pathlib; from pipeline.kubeflow import entrypoint\n"
        f"atexit.register(pathlib.Path({str(sign)!r}).touch)\n"
        "entrypoint._exit(3)"
    )
    finished = subprocess.run([sys.executable, "-c", program], check=False)
    assert finished.returncode == 3
    assert sign.exists()
