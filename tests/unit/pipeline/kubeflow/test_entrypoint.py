import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tfx.dsl.components.base import base_executor
from tfx.types import standard_artifacts

from pipeline.config import load
from pipeline.create_pipeline import create_pipeline
from pipeline.kubeflow import entrypoint
from pipeline.kubeflow.parameters import Binding, Place, StepBindings
from pipeline.kubeflow.target import kfp_target
from tests import kubeflow_recordings

_ROOT = Path(__file__).resolve().parents[4]


class RecordingExecutor(base_executor.BaseExecutor):
    """Keeps what it is given; says something of each output."""

    seen: ClassVar[dict[str, Any]] = {}

    def Do(self, input_dict, output_dict, exec_properties):
        RecordingExecutor.seen = {
            "inputs": {name: artifacts[0] for name, artifacts in input_dict.items()},
            "outputs": {name: artifacts[0].uri for name, artifacts in output_dict.items()},
            "exec_properties": exec_properties,
        }
        logging.getLogger("mind.progress").info("step 100/200")
        for (artifact,) in output_dict.values():
            artifact.set_int_custom_property("size", 7)


def _executor_input(tmp_path):
    """What Kubeflow's driver sent to statistics-gen, with other places and parameters."""
    executor_input = kubeflow_recordings.step("statistics-gen")["executor_input"]
    inputs, outputs = executor_input["inputs"], executor_input["outputs"]
    inputs["artifacts"]["examples"]["artifacts"][0]["uri"] = "minio://bucket/examples"
    inputs["parameterValues"] = {
        "config": json.dumps({"training": {"max_steps": 100}}),
        "limit": 5.0,
        "pipelinechannel--training_max_steps": 3.0,
    }
    outputs["artifacts"]["statistics"]["artifacts"][0]["uri"] = "minio://bucket/task/statistics"
    outputs["outputFile"] = str(tmp_path / "output_metadata.json")
    return executor_input


_BINDINGS = StepBindings(
    {
        "training_max_steps": Binding(
            "NUMBER_INTEGER", 100, (), (Place(("config", "training", "max_steps")),)
        )
    },
    {},
)


def _declared(step):
    arguments = kubeflow_recordings.step(step)["arguments"]
    return json.loads(arguments[arguments.index("--json_serialized_inputs_spec_args") + 1])


def _run(executor_input, *extra):
    inputs_spec = {
        "artifacts": _declared("statistics-gen")["artifacts"],
        "parameters": {
            "config": {"parameterType": "STRING"},
            "limit": {"parameterType": "NUMBER_INTEGER"},
        },
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


def test_executor_sees_local_files_and_this_runs_parameters(tmp_path, launcher_root, capsys):
    result = _run(_executor_input(tmp_path))
    assert "step 100/200\n" in capsys.readouterr().out
    seen = RecordingExecutor.seen
    assert seen["inputs"]["examples"].uri == f"{launcher_root}/minio/bucket/examples"
    assert seen["inputs"]["examples"].type == standard_artifacts.Examples
    assert seen["outputs"] == {"statistics": f"{launcher_root}/minio/bucket/task/statistics"}
    assert seen["exec_properties"] == {"config": '{"training": {"max_steps": 3}}', "limit": 5}
    (statistics,) = result["artifacts"]["statistics"]["artifacts"]
    assert statistics["uri"] == "minio://bucket/task/statistics"
    assert statistics["metadata"]["size"] == 7.0


@pytest.fixture(scope="module")
def channels():
    """Input channel types by step and name, of the pipeline that was recorded."""
    config = load(_ROOT / "configs" / "movielens-100k.yaml", ["kubeflow.storage_root=/mind"])
    return {
        node.id: {name: channel.type for name, channel in node.inputs.items()}
        for node in create_pipeline(config, kfp_target(config)).components
    }


@pytest.mark.parametrize("step", kubeflow_recordings.STEPS)
def test_every_step_runs_on_what_kubeflow_sent(step, channels, tmp_path, launcher_root):
    """Types that the driver left out are there again, of the class that the DAG declares."""
    recorded = kubeflow_recordings.step(step)
    executor_input = recorded["executor_input"]
    sent = executor_input["inputs"].get("artifacts", {})
    assert all(
        artifact["type"] == {"instanceSchema": ""}
        for artifacts in sent.values()
        for artifact in artifacts["artifacts"]
    )
    uris = {name: artifacts["artifacts"][0]["uri"] for name, artifacts in sent.items()}
    outputs = set(executor_input["outputs"]["artifacts"]) - {"executor-logs"}
    output_file = tmp_path / "output_metadata.json"
    executor_input["outputs"]["outputFile"] = str(output_file)
    arguments = [a.replace("{{$}}", json.dumps(executor_input)) for a in recorded["arguments"]]
    place = arguments.index("--executor_class_path") + 1
    arguments[place] = f"{__name__}.RecordingExecutor"
    entrypoint.main(arguments)
    seen = RecordingExecutor.seen
    assert {name: artifact.type for name, artifact in seen["inputs"].items()} == channels[step]
    assert {name: artifact.uri for name, artifact in seen["inputs"].items()} == {
        name: uri.replace("minio://", f"{launcher_root}/minio/") for name, uri in uris.items()
    }
    assert set(seen["outputs"]) == outputs
    assert set(json.loads(output_file.read_text()).get("artifacts", {})) == outputs


@pytest.mark.parametrize(
    "value", ["[[ScheduledTime.20060102]]", "[[CurrentTime]]", "{{$.currentTime.strftime('%Y')}}"]
)
def test_a_macro_that_kubeflow_left_alone_stops_the_step(value):
    """Kubeflow 2.17 left [[ScheduledTime.200601]] as it was in a run that a schedule started."""
    executor_input = {"inputs": {"parameterValues": {"pipelinechannel--span": value}}}
    with pytest.raises(ValueError, match=r"Parameter span is .*2\.16"):
        entrypoint.put_parameters(executor_input, None)


def test_a_type_that_is_there_stays(tmp_path):
    """Vertex AI sends types."""
    given = {"instanceSchema": "title: tfx.Model\ntype: object\n"}
    executor_input = {"inputs": {"artifacts": {"a": {"artifacts": [{"type": dict(given)}]}}}}
    declared = {"artifacts": {"a": {"artifactType": {"instanceSchema": "title: tfx.Examples"}}}}
    entrypoint.put_types(executor_input, declared)
    assert executor_input["inputs"]["artifacts"]["a"]["artifacts"][0]["type"] == given


def test_remote_artifacts_are_opened_in_the_store(tmp_path):
    """A directory stands in for the store: TFX reads and writes it without the launcher."""
    executor_input = _executor_input(tmp_path)
    store = tmp_path / "store"
    executor_input["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"] = f"{store}/examples"
    executor_input["outputs"]["artifacts"]["statistics"]["artifacts"][0]["uri"] = f"{store}/task/s"
    result = _run(executor_input, "--remote_artifacts")
    assert RecordingExecutor.seen["outputs"] == {"statistics": f"{store}/task/s"}
    assert result["artifacts"]["statistics"]["artifacts"][0]["uri"] == f"{store}/task/s"
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
