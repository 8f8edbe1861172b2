"""Executes a compiled pipeline without Kubernetes, as Kubeflow Pipelines would.

  python -m devtools.ir_runner mind.yaml --root DIR [--param NAME=VALUE]

A development tool that checks on one machine whether the compiled file, the entry point and the
image work together. Each step runs its real command in its own process (or container). The driver
and the launcher are imitated: parameters are resolved and type-checked; ExecutorInput is built as
the driver builds it (input artifacts without their types, the store's session in their metadata)
and parsed strictly; artifacts are under ``DIR/pod/minio/...`` where the launcher would place them;
and ``executor-logs`` is among the outputs. ``tests/recordings/kubeflow`` contains what the real
driver sent, and a test compares with it. Not imitated: Kubernetes, Argo, uploads and downloads, ML
Metadata, resources.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from devtools import executor_input
from devtools.artifact_store import ArtifactStore, Execution
from pipeline.kubeflow import spec as spec_lib
from pipeline.kubeflow.launcher_paths import ROOT_VARIABLE, local_path

_LOG_LINES_SHOWN = 20
State = Literal["succeeded", "cached", "failed", "skipped"]


class TaskFailed(Exception):
    """A step ended with an error."""


@dataclasses.dataclass
class TaskResult:
    """The outcome of one step.

    Attributes:
      state: ``succeeded``, ``cached``, ``failed`` or ``skipped``.
      seconds: Duration.
      outputs: RuntimeArtifact by output name.
      log: Its log file; None if it did not run.
      error: Why it failed.
    """

    state: State
    seconds: float = 0.0
    outputs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    log: Path | None = None
    error: str = ""


class IrRunner:
    """Runs one compiled pipeline."""

    def __init__(
        self,
        pipeline: spec_lib.PipelineFile,
        root: Path,
        *,
        pipeline_root: str = "",
        use_cache: bool = True,
        container_command: Sequence[str] = (),
    ):
        """Creates a runner.

        Args:
          pipeline: The pipeline to run.
          root: Directory of all outputs.
          pipeline_root: Replaces the pipeline's default root.
          use_cache: Whether steps may come from the cache.
          container_command: ``podman run --rm`` or the like, which runs steps in containers of
            their image; empty runs them as processes on this machine.
        """
        self._pipeline = pipeline
        self._root = root.resolve()
        self._pipeline_root = (pipeline_root or pipeline.spec.default_pipeline_root).rstrip("/")
        self._use_cache = use_cache
        self._container_command = list(container_command)
        if container_command:
            os.umask(0)  # the image's user writes to the directories made here
        self._pod = str(self._root / "pod")
        self.store = ArtifactStore(self._root / "executions.jsonl")
        self.run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"

    def run(self, given: dict[str, Any], until: str = "") -> dict[str, TaskResult]:
        """Runs the steps in order; after a failure, the rest is skipped.

        Args:
          given: Parameter values.
          until: Run only this step and those that it needs; empty runs all.

        Returns:
          Results by step, in the order of execution.

        Raises:
          SpecError: a value is not valid for the pipeline, or the step does not exist.
        """
        values = spec_lib.parameter_values(self._pipeline, given, with_defaults=True)
        tasks = self._wanted(until)
        results: dict[str, TaskResult] = {}
        failed = False
        for name in _in_order(tasks):
            result = TaskResult("skipped") if failed else self._run_task(name, values, results)
            failed = failed or result.state == "failed"
            results[name] = result
            print(f"{name:<24} {result.state:<10} {result.seconds:7.1f} s", flush=True)
        return results

    def _wanted(self, until: str) -> dict[str, pipeline_spec_pb2.PipelineTaskSpec]:
        tasks = dict(self._pipeline.spec.root.dag.tasks)
        if not until:
            return tasks
        if until not in tasks:
            raise spec_lib.SpecError(f"no step {until!r}; steps: {', '.join(sorted(tasks))}")
        wanted: set[str] = set()
        waiting = {until}
        while waiting:
            name = waiting.pop()
            wanted.add(name)
            waiting |= _needs(tasks[name]) - wanted
        return {name: task for name, task in tasks.items() if name in wanted}

    def _run_task(
        self, name: str, values: dict[str, Any], results: dict[str, TaskResult]
    ) -> TaskResult:
        started = time.monotonic()
        task = self._pipeline.spec.root.dag.tasks[name]
        component = self._pipeline.spec.components[task.component_ref.name]
        container = self._pipeline.deployment.executors[component.executor_label].container
        task_dir = self._root / "runs" / self.run_id / name
        task_dir.mkdir(parents=True)
        inputs: dict[str, Any] = {
            "parameterValues": executor_input.resolve_parameters(name, task, component, values)
        }
        if task.inputs.artifacts:  # as in all protobuf JSON, empty fields are left out
            inputs["artifacts"] = {
                key: {"artifacts": [_input_artifact(source, results)]}
                for key, source in task.inputs.artifacts.items()
            }
        task_uri = "/".join(
            (
                self._pipeline_root,
                self._pipeline.spec.pipeline_info.name,
                self.run_id,
                name,
                str(uuid.uuid4()),
            )
        )
        step_root = "" if self._container_command else self._pod
        outputs = executor_input.provision(component, task_uri, step_root)
        cache_key = executor_input.cache_key(container, inputs, outputs)
        if self._use_cache and task.caching_options.enable_cache:
            hit = self.store.cached(cache_key)
            if hit:
                return TaskResult("cached", time.monotonic() - started, hit.outputs)
        attempts = 1 + task.retry_policy.max_retry_count
        for attempt in range(1, attempts + 1):
            log = task_dir / f"log-{attempt}.txt"
            try:
                self._launch(container, inputs, outputs, task_dir, log)
                output_file = Path(executor_input.output_file(outputs, self._pod))
                artifacts = executor_input.collect(outputs, output_file)
                break
            except (TaskFailed, json_format.ParseError) as error:
                if attempt == attempts:
                    return TaskResult("failed", time.monotonic() - started, {}, log, str(error))
                print(f"{name:<24} attempt {attempt} of {attempts} failed; log: {log}", flush=True)
        self.store.publish(Execution(self.run_id, name, cache_key, artifacts))
        return TaskResult("succeeded", time.monotonic() - started, artifacts, log)

    def _launch(
        self,
        container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        task_dir: Path,
        log: Path,
    ) -> None:
        given = {"inputs": inputs, "outputs": outputs}
        json_format.ParseDict(given, pipeline_spec_pb2.ExecutorInput())
        text = json.dumps(executor_input.as_go_prints(given))
        (task_dir / "executor_input.json").write_text(text, encoding="utf-8")
        for output in outputs["artifacts"].values():  # prepareOutputFolders
            path = local_path(output["artifacts"][0]["uri"], self._pod)
            os.makedirs(os.path.dirname(path), exist_ok=True)
        command = [
            argument.replace("{{$}}", text) for argument in [*container.command, *container.args]
        ]
        environment = {variable.name: variable.value for variable in container.env}
        if self._container_command:
            command = [*self._in_container(environment), container.image, *command]
            process_environment = dict(os.environ)
        else:
            # "python" is the interpreter that runs this.
            path = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", "")))
            process_environment = {
                **os.environ,
                **environment,
                ROOT_VARIABLE: self._pod,
                "PATH": path,
            }
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=process_environment,
                check=False,
            ).returncode
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            tail = "\n".join(lines[-_LOG_LINES_SHOWN:])
            raise TaskFailed(f"exit code {code}; the log ends with\n{tail}")

    def _in_container(self, environment: dict[str, str]) -> list[str]:
        mounts = {}
        for directory in ("minio", "s3", "gcs"):
            os.makedirs(f"{self._pod}/{directory}", exist_ok=True)
            mounts[f"{self._pod}/{directory}"] = f"/{directory}"
        flags = [f for host, pod in mounts.items() for f in ("--volume", f"{host}:{pod}")]
        flags += [f for item in environment.items() for f in ("--env", "=".join(item))]
        return [*self._container_command, *flags]

    def output_path(self, result: TaskResult, key: str) -> Path:
        """Returns where this machine stores an output."""
        return Path(local_path(result.outputs[key]["uri"], self._pod))


def _in_order(tasks: Mapping[str, pipeline_spec_pb2.PipelineTaskSpec]) -> Iterator[str]:
    waiting = dict(tasks)
    while waiting:
        ready = sorted(name for name, task in waiting.items() if not _needs(task) & set(waiting))
        if not ready:
            raise spec_lib.SpecError(f"tasks depend on each other: {sorted(waiting)}")
        for name in ready:
            del waiting[name]
            yield name


def _needs(task: pipeline_spec_pb2.PipelineTaskSpec) -> set[str]:
    producers = {a.task_output_artifact.producer_task for a in task.inputs.artifacts.values()}
    return producers | set(task.dependent_tasks)


def _input_artifact(
    source: pipeline_spec_pb2.TaskInputsSpec.InputArtifactSpec, results: dict[str, TaskResult]
) -> dict[str, Any]:
    output = source.task_output_artifact
    produced = results[output.producer_task].outputs[output.output_artifact_key]
    return executor_input.input_artifact(output.output_artifact_key, produced)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a compiled pipeline; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pipeline", help="compiled YAML file")
    parser.add_argument("--root", required=True, type=Path, help="directory for everything written")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--pipeline_root", default="", help="replaces the compiled pipeline root")
    parser.add_argument(
        "--until", default="", metavar="STEP", help="run only this step and those that it needs"
    )
    parser.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--container",
        default="",
        metavar="COMMAND",
        help="run steps in containers, with a command like 'podman run --rm --network=host'",
    )
    flags = parser.parse_args(argv)
    try:
        pipeline = spec_lib.load(flags.pipeline)
        runner = IrRunner(
            pipeline,
            flags.root,
            pipeline_root=flags.pipeline_root,
            use_cache=flags.cache,
            container_command=flags.container.split(),
        )
        results = runner.run(spec_lib.parse_parameters(pipeline, flags.param), flags.until)
    except spec_lib.SpecError as error:
        print(error, file=sys.stderr)
        return 2
    for name, result in results.items():
        if result.state == "failed":
            print(f"\nStep {name} failed: {result.error}\nLog: {result.log}", file=sys.stderr)
            return 1
    print(f"Run {runner.run_id} succeeded.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
