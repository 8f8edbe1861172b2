"""Imitates what Kubeflow's driver passes to a step, and how its launcher reads the result.

This is for development. ``tests/recordings/kubeflow`` contains what the real programs sent, and
tests compare with it. Sources: kubeflow/pipelines ``backend/src/v2``, ``driver/driver.go``,
``component/launcher_v2.go``, ``cacheutils/cache.go``.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.kubeflow import spec as spec_lib
from pipeline.kubeflow.launcher_paths import local_path

_OUTPUT_FILE = "output_metadata.json"
_EXECUTOR_LOGS = "executor-logs"
# The driver reads inputs from ML Metadata, which does not store their types.
_NO_TYPE = {"instanceSchema": ""}
# The driver adds this key to the metadata of every input, for the launcher.
_DISPLAY_NAME = "display_name"
_STORE_SESSION = "store_session_info"
_SESSION = {
    "Provider": "minio",
    "Params": {
        "accessKeyKey": "accesskey",
        "disableSSL": "true",
        "endpoint": "seaweedfs.kubeflow:9000",
        "fromEnv": "false",
        "maxRetries": "5",
        "region": "minio",
        "secretKeyKey": "secretkey",
        "secretName": "mlpipeline-minio-artifact",
    },
}


def resolve_parameters(
    name: str,
    task: pipeline_spec_pb2.PipelineTaskSpec,
    component: pipeline_spec_pb2.ComponentSpec,
    values: dict[str, Any],
) -> dict[str, Any]:
    """Imitates ``resolveInputs`` of the driver for parameters."""
    resolved = {}
    for key, source in task.inputs.parameters.items():
        kind = source.WhichOneof("kind")
        if kind == "component_input_parameter":
            resolved[key] = values[source.component_input_parameter]
        elif kind == "runtime_value":
            resolved[key] = json_format.MessageToDict(source.runtime_value.constant)
        else:
            raise spec_lib.SpecError(f"task {name}: {kind} of {key} is not supported")
    for key, definition in component.input_definitions.parameters.items():
        if key not in resolved and not definition.HasField("default_value"):
            raise spec_lib.SpecError(
                f"task {name}: neither value nor default provided for parameter {key!r}"
            )
    return resolved


def input_artifact(key: str, artifact: dict[str, Any]) -> dict[str, Any]:
    """Imitates ``resolveInputs`` of the driver: an artifact as ML Metadata returns it.

    Args:
      key: Name of the output that it came from.
      artifact: The artifact from ``collect``, with its number as its name.
    """
    return {
        "name": artifact["name"],
        "type": _NO_TYPE,
        "uri": artifact["uri"],
        "metadata": {
            _DISPLAY_NAME: key,
            _STORE_SESSION: json.dumps(_SESSION, separators=(",", ":"), sort_keys=True),
            **artifact.get("metadata", {}),
        },
    }


def provision(
    component: pipeline_spec_pb2.ComponentSpec, task_uri: str, root: str
) -> dict[str, Any]:
    """Imitates ``provisionOutputs`` of the driver.

    Args:
      component: Component of the step.
      task_uri: Location of this execution's artifacts.
      root: Directory that represents the root of the step's file system; "" in a container.
    """
    types = {
        key: json_format.MessageToDict(output.artifact_type)
        for key, output in component.output_definitions.artifacts.items()
    }
    types[_EXECUTOR_LOGS] = {"schemaTitle": "system.Artifact"}
    outputs = {
        "artifacts": {
            key: {"artifacts": [{"name": key, "type": kind, "uri": f"{task_uri}/{key}"}]}
            for key, kind in types.items()
        }
    }
    return {**outputs, "outputFile": output_file(outputs, root)}


def output_file(outputs: dict[str, Any], root: str) -> str:
    """Returns where a step writes its output's metadata: beside its artifacts."""
    logs = outputs["artifacts"][_EXECUTOR_LOGS]["artifacts"][0]["uri"]
    return local_path(f"{os.path.dirname(logs)}/{_OUTPUT_FILE}", root)


def collect(outputs: dict[str, Any], output_file: Path) -> dict[str, dict[str, Any]]:
    """Imitates ``mergeRuntimeArtifacts`` of the launcher."""
    written = pipeline_spec_pb2.ExecutorOutput()
    if output_file.exists():
        json_format.Parse(output_file.read_text(encoding="utf-8"), written)
    artifacts = {}
    for key, provisioned in outputs["artifacts"].items():
        if key == _EXECUTOR_LOGS:
            continue
        artifact = dict(provisioned["artifacts"][0])
        if written.artifacts[key].artifacts:
            source = json_format.MessageToDict(written.artifacts[key].artifacts[0])
            artifact["uri"] = source.get("uri") or artifact["uri"]
            artifact["metadata"] = source.get("metadata", {})
        artifacts[key] = artifact
    return artifacts


def as_go_prints(value: Any) -> Any:
    """Formats numbers of a protobuf Value as Go does: 10 where Python has 10.0."""
    if isinstance(value, dict):
        return {key: as_go_prints(child) for key, child in value.items()}
    if isinstance(value, list):
        return [as_go_prints(child) for child in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def cache_key(
    container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
    inputs: dict[str, Any],
    outputs: dict[str, Any],
) -> str:
    """Imitates ``GenerateCacheKey``: inputs by name, parameters, output kinds, command, image."""
    artifacts = inputs.get("artifacts", {})
    parts = {
        "command": [*container.command, *container.args],
        "image": container.image,
        "environment": {v.name: v.value for v in container.env},
        "parameters": inputs["parameterValues"],
        "artifacts": {k: v["artifacts"][0]["name"] for k, v in artifacts.items()},
        "outputs": {k: v["artifacts"][0]["type"] for k, v in outputs["artifacts"].items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
