"""Reads a compiled pipeline as strictly as the API server of Kubeflow Pipelines does.

``kfp.Client`` sends whatever can be parsed, but the server refuses more than that. Checking here
first gives the same answer without a cluster. Source: ``NewV2SpecTemplate`` and
``validatePipelineJobInputs`` in kubeflow/pipelines
``backend/src/apiserver/template/v2_template.go`` and the Argo compiler's ``dag.go``.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_SCHEMA_VERSION = "2.1.0"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# Argo's pattern for a task name, narrowed to what Kubernetes accepts as a label.
_TASK_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_Kind = pipeline_spec_pb2.ParameterType
_PYTHON_TYPES: dict[int, tuple[type, ...]] = {
    _Kind.NUMBER_DOUBLE: (int, float),
    _Kind.NUMBER_INTEGER: (int, float),
    _Kind.STRING: (str,),
    _Kind.BOOLEAN: (bool,),
    _Kind.LIST: (list,),
    _Kind.STRUCT: (dict,),
}


class SpecError(ValueError):
    """A pipeline, or a value for it, that the server would refuse."""


@dataclasses.dataclass(frozen=True)
class PipelineFile:
    """A compiled pipeline.

    Attributes:
      spec: The pipeline.
      deployment: Its ``deployment_spec``, which says how each component is executed.
      platform: The settings specific to Kubernetes.
    """

    spec: pipeline_spec_pb2.PipelineSpec
    deployment: pipeline_spec_pb2.PipelineDeploymentConfig
    platform: pipeline_spec_pb2.PlatformSpec


def load(path: str | Path) -> PipelineFile:
    """Reads and validates a compiled YAML file.

    Raises:
      SpecError: the server would refuse the file.
    """
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def parse(text: str) -> PipelineFile:
    """Parses and validates the text of a compiled YAML file, as ``load`` does."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        raise SpecError(f"not YAML: {error}") from None
    specs = [d for d in documents if isinstance(d, dict) and "pipelineInfo" in d]
    if len(specs) != 1:
        raise SpecError(
            f"expected one document with pipelineInfo, received {len(specs)}. A PipelineJob (JSON) "
            "is not accepted: compile to a .yaml file."
        )
    platform = pipeline_spec_pb2.PlatformSpec()
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    try:
        spec = json_format.ParseDict(specs[0], pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(json_format.MessageToDict(spec.deployment_spec), deployment)
        for document in documents:
            if document is not specs[0]:
                json_format.ParseDict(document, platform)
    except json_format.ParseError as error:
        raise SpecError(f"invalid v2 pipeline spec: {error}") from None
    pipeline = PipelineFile(spec, deployment, platform)
    _check(pipeline)
    return pipeline


def parameter_values(
    pipeline: PipelineFile, given: Mapping[str, Any], *, with_defaults: bool = False
) -> dict[str, Any]:
    """Checks the parameters of a run.

    Args:
      pipeline: The pipeline to run.
      given: Values by parameter name.
      with_defaults: Whether to return also the parameters that were not given.

    Raises:
      SpecError: a name is unknown, a value has another type, or a parameter has neither a value nor
        a default.
    """
    definitions = pipeline.spec.root.input_definitions.parameters
    unknown = sorted(set(given) - set(definitions))
    if unknown:
        raise SpecError(
            f"parameter {', '.join(unknown)} is not one of this pipeline's: "
            f"{', '.join(sorted(definitions)) or 'it has none'}"
        )
    values = {}
    for name, definition in definitions.items():
        if name in given:
            value = given[name]
            if not _has_kind(value, definition.parameter_type):
                expected = _Kind.ParameterTypeEnum.Name(definition.parameter_type)
                raise SpecError(f"parameter {name}: expected {expected}, received {value!r}")
            values[name] = value
        elif definition.HasField("default_value"):
            if with_defaults:
                values[name] = json_format.MessageToDict(definition.default_value)
        elif not definition.is_optional:
            raise SpecError(f"parameter {name} has neither a value nor a default")
    return values


def parse_parameters(pipeline: PipelineFile, texts: list[str]) -> dict[str, Any]:
    """Parses ``NAME=VALUE`` according to the parameter's type; lists and structs are JSON.

    Raises:
      SpecError: as for ``parameter_values``, and for text that is not such a value.
    """
    definitions = pipeline.spec.root.input_definitions.parameters
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--param {text!r}: expected NAME=VALUE")
        values[name] = value
        if name in definitions and definitions[name].parameter_type != _Kind.STRING:
            # Text that is not JSON is refused below, with the expected type.
            with contextlib.suppress(ValueError):
                values[name] = json.loads(value)
    return parameter_values(pipeline, values)


def _has_kind(value: Any, kind: int) -> bool:
    if isinstance(value, bool) and kind != _Kind.BOOLEAN:
        return False
    if kind == _Kind.NUMBER_INTEGER and isinstance(value, float) and not value.is_integer():
        return False
    return isinstance(value, _PYTHON_TYPES.get(kind, ()))


def _check(pipeline: PipelineFile) -> None:
    spec, deployment = pipeline.spec, pipeline.deployment
    if spec.schema_version != _SCHEMA_VERSION:
        raise SpecError(
            f"KFP only supports schema version {_SCHEMA_VERSION}, but the pipeline spec has "
            f"version {spec.schema_version or 'none'}"
        )
    if not _NAME.fullmatch(spec.pipeline_info.name):
        raise SpecError(
            f"pipeline name {spec.pipeline_info.name!r}: expected lower case letters, digits, '-' "
            "and '.', beginning and ending with a letter or digit"
        )
    if not spec.root.dag.tasks:
        raise SpecError("invalid v2 pipeline spec: root component is empty")
    _check_tasks(spec)
    for name, component in spec.components.items():
        if component.executor_label not in deployment.executors:
            raise SpecError(f"component {name}: unknown executor {component.executor_label!r}")
    for label, executor in deployment.executors.items():
        kind = executor.WhichOneof("spec")
        if kind != "container":
            raise SpecError(f"{label}: {kind} executors are not implemented by open-source KFP")
        if not executor.container.command:
            raise SpecError(f"{label}: command and arguments are empty")
    platform = pipeline.platform.platforms
    if "kubernetes" in platform:
        unknown = set(platform["kubernetes"].deployment_spec.executors) - set(deployment.executors)
        if unknown:
            raise SpecError(f"platform spec: unknown executors {', '.join(sorted(unknown))}")


def _check_tasks(spec: pipeline_spec_pb2.PipelineSpec) -> None:
    tasks = spec.root.dag.tasks
    for name, task in tasks.items():
        if not _TASK_NAME.fullmatch(name):
            raise SpecError(f"task {name!r}: expected up to 63 lower case letters, digits and '-'")
        if task.component_ref.name not in spec.components:
            raise SpecError(f"task {name}: unknown component {task.component_ref.name!r}")
        component = spec.components[task.component_ref.name]
        for dependency in task.dependent_tasks:
            if dependency not in tasks:
                raise SpecError(f"task {name}: depends on unknown task {dependency!r}")
        for key, source in task.inputs.artifacts.items():
            producer = source.task_output_artifact.producer_task
            output = source.task_output_artifact.output_artifact_key
            if (
                producer not in tasks
                or output
                not in spec.components[
                    tasks[producer].component_ref.name
                ].output_definitions.artifacts
            ):
                raise SpecError(f"task {name}: input {key} comes from unknown {producer}.{output}")
        for key, parameter in task.inputs.parameters.items():
            if key not in component.input_definitions.parameters:
                raise SpecError(f"task {name}: its component has no parameter {key!r}")
            channel = parameter.component_input_parameter
            if channel and channel not in spec.root.input_definitions.parameters:
                raise SpecError(f"task {name}: unknown pipeline parameter {channel!r}")
