"""Compiles the pipeline into a file that Kubeflow Pipelines 2 and Vertex AI execute.

TFX's KubeflowV2DagRunner builds the pipeline spec. This module adds what that runner leaves out:
runtime parameters with defaults, resources, retries, caching per step, environment, secrets and
volumes, and the entry point that lets TFX executors run under Kubeflow's launcher.
"""

import dataclasses
import difflib
import json
import posixpath
from pathlib import Path
from typing import Any, Literal

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from contract.config_types import from_dict, to_dict
from pipeline.config import ConfigError, RunConfig
from pipeline.create_pipeline import FINAL_TRAINER, LAST_PUSHED, PUSHER, TRAINER, create_pipeline
from pipeline.kubeflow import object_store
from pipeline.kubeflow import parameters as parameters_lib
from pipeline.kubeflow.launcher_paths import readable_uri
from pipeline.kubeflow.parameters import PARAMETERS, StepBindings
from pipeline.kubeflow.target import kfp_target
from pipeline.kubeflow_config import DEFAULT_STEPS
from pipeline.target import RunTarget

TargetName = Literal["kfp", "vertex"]

_COMMAND = ("python", "-m", "pipeline.kubeflow.entrypoint")
_VERTEX_MAX_BACKOFF_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline that a cluster can execute.

    Attributes:
      pipeline_spec: The pipeline, as plain JSON types.
      platform_spec: The settings specific to Kubernetes: secrets and volumes; empty if there are
        none.
    """

    pipeline_spec: dict[str, Any]
    platform_spec: dict[str, Any]

    def to_yaml(self) -> str:
        """Returns the file that ``kfp.Client`` uploads: one or two YAML documents."""
        documents = [self.pipeline_spec, *([self.platform_spec] if self.platform_spec else [])]
        return _header(self.pipeline_spec) + yaml.safe_dump_all(
            documents, sort_keys=True, width=100, allow_unicode=True
        )

    def write(self, path: str | Path) -> Path:
        """Writes the YAML file and returns its path.

        Raises:
          ConfigError: the name does not end in .yaml; ``kfp.Client`` would refuse the file.
        """
        output = Path(path)
        if output.suffix not in (".yaml", ".yml"):
            raise ConfigError(f"--output {path}: expected a name that ends in .yaml")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(self.to_yaml(), encoding="utf-8")
        return output


def compile_pipeline(
    config: RunConfig, image: str, target: TargetName = "kfp", pipeline_root: str = ""
) -> CompiledPipeline:
    """Compiles ``create_pipeline`` without accessing a network.

    Args:
      config: The run's configuration.
      image: Image of all steps.
      target: The system that executes it.
      pipeline_root: Replaces ``kubeflow.pipeline_root``.

    Raises:
      ConfigError: the configuration does not suit the target.
    """
    _check(config, target, pipeline_root or config.kubeflow.pipeline_root)
    run_target = kfp_target(config, pipeline_root=pipeline_root)
    spec = _build(config, run_target, image)
    _check_step_names(config, spec)
    spec.default_pipeline_root = run_target.pipeline_root
    _add_parameters(spec, config, run_target)
    deployment = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec),
        pipeline_spec_pb2.PipelineDeploymentConfig(),
    )
    uses_s3 = _uses_s3(config, target, run_target)
    for node_id, task in spec.root.dag.tasks.items():
        container = deployment.executors[_executor(spec, node_id)].container
        _set_needs(config, target, node_id, task, container)
        if target == "vertex" or config.kubeflow.remote_artifacts:
            container.args.append("--remote_artifacts")
        if uses_s3 and not config.kubeflow.object_store.endpoint:
            container.args.append("--find_object_store")
        for name, value in sorted(_environment(config, uses_s3).items()):
            container.env.add(name=name, value=value)
    spec.deployment_spec.Clear()
    spec.deployment_spec.update(json_format.MessageToDict(deployment))
    return CompiledPipeline(
        pipeline_spec=json_format.MessageToDict(spec),
        platform_spec=_platform_spec(config, uses_s3, list(deployment.executors)),
    )


def _check(config: RunConfig, target: TargetName, pipeline_root: str) -> None:
    if target == "vertex" and not pipeline_root.startswith("gs://"):
        raise ConfigError(
            f"pipeline root {pipeline_root!r}: expected gs://BUCKET/FOLDER for the target vertex. "
            "Pass --pipeline_root or set kubeflow.pipeline_root."
        )
    if target == "vertex" and config.kubeflow.volumes:
        raise ConfigError(
            "kubeflow.volumes: Vertex AI has no persistent volume claims. Remove the volumes and "
            "keep their contents in gs://."
        )


def _check_step_names(config: RunConfig, spec: pipeline_spec_pb2.PipelineSpec) -> None:
    known = {*spec.root.dag.tasks, *DEFAULT_STEPS}
    for name in config.kubeflow.steps:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"kubeflow.steps: no step {name!r}.{hint} Steps: {', '.join(sorted(known))}."
            )


def _build(config: RunConfig, run_target: RunTarget, image: str) -> pipeline_spec_pb2.PipelineSpec:
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image=image,
            default_commands=list(_COMMAND),
            use_pipeline_spec_2_1=True,
        )
    )
    job = runner.run(create_pipeline(config, run_target), write_out=False)
    return json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())


def _executor(spec: pipeline_spec_pb2.PipelineSpec, node_id: str) -> str:
    return spec.components[spec.root.dag.tasks[node_id].component_ref.name].executor_label


# Parameters ---------------------------------------------------------------------------


def _add_parameters(
    spec: pipeline_spec_pb2.PipelineSpec, config: RunConfig, run_target: RunTarget
) -> None:
    defaults = {p.name: _default(config, run_target, p.key) for p in PARAMETERS}
    marked_config, marked_target = _marked(config, run_target.pipeline_root)
    marked = _build(marked_config, marked_target, "any")
    bindings = parameters_lib.bind(
        _execution_properties(spec),
        _execution_properties(marked),
        defaults,
        _keys(run_target),
        _keys(marked_target),
    )
    used = {name for step in bindings.values() for name in step.parameters}
    for parameter in PARAMETERS:
        if parameter.name in used:
            definition = spec.root.input_definitions.parameters[parameter.name]
            definition.parameter_type = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Value(
                parameter.kind
            )
            json_format.ParseDict(defaults[parameter.name], definition.default_value)
            definition.description = parameter.description
    for node_id, step in bindings.items():
        _add_step_parameters(spec, node_id, step)


def _add_step_parameters(
    spec: pipeline_spec_pb2.PipelineSpec, node_id: str, bindings: StepBindings
) -> None:
    task = spec.root.dag.tasks[node_id]
    component = spec.components[task.component_ref.name]
    for parameter in PARAMETERS:
        if parameter.name not in bindings.parameters:
            continue
        definition = component.input_definitions.parameters[parameter.channel]
        definition.parameter_type = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Value(
            parameter.kind
        )
        task.inputs.parameters[parameter.channel].component_input_parameter = parameter.name
    container = spec.deployment_spec["executors"][component.executor_label]["container"]
    container["args"].extend(["--runtime_parameters", bindings.to_json()])


def _execution_properties(spec: pipeline_spec_pb2.PipelineSpec) -> dict[str, dict[str, Any]]:
    return {
        node_id: {
            name: json_format.MessageToDict(value.runtime_value.constant)
            for name, value in task.inputs.parameters.items()
        }
        for node_id, task in spec.root.dag.tasks.items()
    }


def _keys(run_target: RunTarget) -> dict[str, str]:
    return {
        parameters_lib.RUN_KEY: run_target.run_key,
        parameters_lib.TRAINING_KEY: posixpath.basename(run_target.checkpoint_dir),
    }


def _default(config: RunConfig, run_target: RunTarget, key: str) -> Any:
    if key == "push.destination":  # configured or derived from the storage root
        return run_target.push_destination
    section, _, field = key.partition(".")
    if section == "target":
        return getattr(run_target, field)
    node: Any = to_dict(config)
    for part in key.split("."):
        node = node[part]
    return node


def _marked(config: RunConfig, pipeline_root: str) -> tuple[RunConfig, RunTarget]:
    values = to_dict(config)
    target_fields = {}
    for parameter in PARAMETERS:
        *sections, last = parameter.key.split(".")
        if sections == ["target"]:
            target_fields[last] = parameter.mark
            continue
        node = values
        for section in sections:
            node = node[section]
        node[last] = parameter.mark
    marked = from_dict(RunConfig, values)
    return marked, kfp_target(marked, pipeline_root=pipeline_root, **target_fields)


# What the cluster provides --------------------------------------------------------------


def _set_needs(
    config: RunConfig,
    target: TargetName,
    node_id: str,
    task: pipeline_spec_pb2.PipelineTaskSpec,
    container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
) -> None:
    needs = config.kubeflow.step(node_id)
    # The push destination changes outside the pipeline, so these steps inspect it in every run.
    task.caching_options.enable_cache = needs.cache and node_id not in (LAST_PUSHED, PUSHER)
    if needs.retries:
        task.retry_policy.max_retry_count = needs.retries
        task.retry_policy.backoff_duration.seconds = needs.retry_backoff_seconds
        task.retry_policy.backoff_factor = 2.0
        # KFP 2.14 and later pass 0 to Argo unless this is given, and Argo then starts no second
        # attempt. Argo applies it to all attempts together, Vertex AI to each of the pauses between
        # them.
        limit = round(needs.retry_within_hours * 3600)
        if target == "vertex":
            limit = min(limit, _VERTEX_MAX_BACKOFF_SECONDS)
        task.retry_policy.backoff_max_duration.seconds = limit
    resources = container.resources
    # Backends before KFP 2.4 read numbers; later ones read text.
    if needs.cpu:
        resources.cpu_limit = resources.cpu_request = needs.cpu
        resources.resource_cpu_limit = resources.resource_cpu_request = f"{needs.cpu:g}"
    if needs.memory_gb:
        resources.memory_limit = resources.memory_request = needs.memory_gb
        resources.resource_memory_limit = f"{needs.memory_gb:g}G"
        resources.resource_memory_request = f"{needs.memory_gb:g}G"
    if node_id in (TRAINER, FINAL_TRAINER) and config.kubeflow.trainer_gpus:
        accelerator = resources.accelerator
        accelerator.type = accelerator.resource_type = config.kubeflow.gpu_type
        accelerator.count = config.kubeflow.trainer_gpus
        accelerator.resource_count = str(config.kubeflow.trainer_gpus)


def _uses_s3(config: RunConfig, target: TargetName, run_target: RunTarget) -> bool:
    """Whether steps access ``s3://`` themselves instead of leaving it to the launcher."""
    places = [run_target.push_destination, run_target.checkpoint_dir, run_target.bad_rows_dir]
    if config.kubeflow.remote_artifacts:
        places.append(readable_uri(run_target.pipeline_root))
    return target == "kfp" and any(place.startswith("s3://") for place in places)


def _environment(config: RunConfig, uses_s3: bool) -> dict[str, str]:
    """Returns the environment of every step, with the store under TensorFlow's and boto's names."""
    store = config.kubeflow.object_store
    environment = {}
    if uses_s3:
        environment["AWS_REGION"] = environment["AWS_DEFAULT_REGION"] = store.region
        if store.endpoint not in ("", object_store.AMAZON):
            environment |= object_store.endpoint_environment(store.endpoint)
    return {**environment, **config.kubeflow.env}


def _platform_spec(config: RunConfig, uses_s3: bool, executors: list[str]) -> dict[str, Any]:
    """Returns Kubernetes' settings: ``KubernetesExecutorConfig`` of the kfp-kubernetes package."""
    store = config.kubeflow.object_store
    executor: dict[str, Any] = {}
    if store.secret and uses_s3:
        executor["secretAsEnv"] = [
            {
                "secretName": store.secret,
                "keyToEnv": [
                    {"secretKey": store.access_key, "envVar": "AWS_ACCESS_KEY_ID"},
                    {"secretKey": store.secret_key, "envVar": "AWS_SECRET_ACCESS_KEY"},
                ],
            }
        ]
    if config.kubeflow.volumes:
        executor["pvcMount"] = [
            {"constant": volume.claim, "mountPath": volume.mount_path}
            for volume in config.kubeflow.volumes
        ]
    if not executor:
        return {}
    deployment = {"executors": {label: executor for label in sorted(executors)}}
    return {"platforms": {"kubernetes": {"deploymentSpec": deployment}}}


def _header(spec: dict[str, Any]) -> str:
    lines = [f"# PIPELINE DEFINITION: {spec['pipelineInfo']['name']}", "# Inputs:"]
    for name, parameter in sorted(spec["root"]["inputDefinitions"]["parameters"].items()):
        default = json.dumps(parameter["defaultValue"], ensure_ascii=False)
        lines.append(f"#   {name}: {parameter['parameterType']} [default: {default}]")
    return "\n".join(lines) + "\n"
