"""The entry point of every container of a compiled pipeline.

TFX's own entry point does not work under the launcher of open-source Kubeflow Pipelines, for three
reasons. The driver sends input artifacts without their types, which TFX needs to construct them.
Artifacts have ``minio://`` URIs, which TFX cannot open, although the launcher keeps a local copy.
The launcher adds an output ``executor-logs`` whose type TFX does not know. This module therefore
translates the input, inserts the run's parameters, and calls TFX's entry point.
"""

import argparse
import atexit
import importlib.util
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import model  # noqa: F401  (selects Keras 2 before TFX imports TensorFlow)
from pipeline.kubeflow import object_store, parameters
from pipeline.kubeflow.launcher_paths import local_path, readable_uri

# The launcher adds this output (KFP 2.5 and later, PUBLISH_LOGS); TFX does not know its type.
_EXECUTOR_LOGS = "executor-logs"
_MACRO = re.compile(r"\[\[(CurrentTime|ScheduledTime|RunUUID|Index)\b|\{\{\$\.")


def main(argv: Sequence[str]) -> None:
    """Runs one step.

    Args:
      argv: Arguments of the container; see ``pipeline.kubeflow.compile``.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args", required=True)
    parser.add_argument("--runtime_parameters")
    parser.add_argument("--remote_artifacts", action="store_true")
    parser.add_argument("--find_object_store", action="store_true")
    flags, beam_args = parser.parse_known_args(list(argv))

    show_progress()
    executor_input = json.loads(flags.json_serialized_invocation_args)
    if flags.find_object_store:
        os.environ.update(object_store.environment(executor_input))
    open_file_systems(beam_args)
    executor_output_file = executor_input["outputs"]["outputFile"]
    put_types(executor_input, json.loads(flags.json_serialized_inputs_spec_args))
    put_parameters(executor_input, flags.runtime_parameters)
    uris = open_artifacts(executor_input, remote=flags.remote_artifacts)
    _run(
        argparse.Namespace(
            executor_class_path=flags.executor_class_path,
            json_serialized_invocation_args=json.dumps(executor_input),
            json_serialized_inputs_spec_args=flags.json_serialized_inputs_spec_args,
        ),
        beam_args,
    )
    from tfx.dsl.io import fileio

    with fileio.open(executor_input["outputs"]["outputFile"], "rb") as file:
        executor_output = json.loads(file.read())
    restore_uris(executor_output, uris)
    fileio.makedirs(os.path.dirname(executor_output_file))
    with fileio.open(executor_output_file, "w") as file:
        file.write(json.dumps(executor_output))


def show_progress() -> None:
    """Writes this project's own log messages, such as the Trainer's progress, to the step's log."""
    logger = logging.getLogger("mind")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def open_file_systems(beam_args: Sequence[str]) -> None:
    """Enables TensorFlow and Beam to read ``s3://``, if the image has the packages for it.

    TensorFlow's S3 file system is part of tensorflow-io and is registered when that is imported.
    Beam's S3 file system needs pipeline options even outside a pipeline.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(beam_args)))
    if importlib.util.find_spec("tensorflow_io"):
        importlib.import_module("tensorflow_io")


def put_types(executor_input: dict[str, Any], inputs_spec: dict[str, Any]) -> None:
    """Adds the declared type to every input artifact that came without one, in place.

    The driver of Kubeflow Pipelines (2.3 to 2.17 at least) takes an input's type from ML Metadata,
    which does not store the schema, and so sends ``{"instanceSchema": ""}``. Vertex AI sends the
    type itself.

    Args:
      executor_input: An ExecutorInput.
      inputs_spec: The component's ComponentInputsSpec, with the declared types.
    """
    declared = inputs_spec.get("artifacts", {})
    for name, artifacts in executor_input["inputs"].get("artifacts", {}).items():
        for artifact in artifacts.get("artifacts", []):
            if not any(artifact.get("type", {}).values()):
                artifact["type"] = declared[name]["artifactType"]


def put_parameters(executor_input: dict[str, Any], bindings_json: str | None) -> None:
    """Inserts the run's parameter values into the execution properties, in place.

    Raises:
      ValueError: a value still contains a macro of a schedule, such as
        ``[[CurrentTime.20060102]]``, that Kubeflow should have replaced.
    """
    values = executor_input["inputs"].get("parameterValues", {})
    given = {
        name.removeprefix(parameters.CHANNEL_PREFIX): values.pop(name)
        for name in list(values)
        if name.startswith(parameters.CHANNEL_PREFIX)
    }
    for name, value in given.items():
        if _MACRO.search(str(value)):
            raise ValueError(
                f"Parameter {name} is {value!r}: Kubeflow should have replaced the macro in it. "
                "Kubeflow Pipelines 2.16 and later replace [[CurrentTime.FORMAT]], in runs and in "
                "schedules of a pipeline's newest version; earlier ones replace no macros, and no "
                "version replaces [[ScheduledTime.FORMAT]]. Submit the run with the value itself."
            )
    if bindings_json:
        bindings = parameters.StepBindings.from_json(bindings_json)
        executor_input["inputs"]["parameterValues"] = parameters.apply(values, bindings, given)


def open_artifacts(executor_input: dict[str, Any], *, remote: bool) -> dict[str, str]:
    """Replaces URIs by ones that TFX can open, in place.

    Args:
      executor_input: An ExecutorInput.
      remote: Whether to open artifacts in the store instead of the launcher's copies.

    Returns:
      Original URIs by their replacements.
    """
    outputs = executor_input["outputs"]
    outputs.get("artifacts", {}).pop(_EXECUTOR_LOGS, None)
    uris = {}
    for side in ("inputs", "outputs"):
        for artifacts in executor_input[side].get("artifacts", {}).values():
            for artifact in artifacts.get("artifacts", []):
                uri = artifact["uri"]
                artifact["uri"] = readable_uri(uri) if remote else local_path(uri)
                uris[artifact["uri"]] = uri
                if remote and side == "outputs":
                    # TFX keeps temporary files beside the output file, and remote Beam workers must
                    # be able to see them too.
                    task_dir = os.path.dirname(artifact["uri"].rstrip("/"))
                    outputs["outputFile"] = f"{task_dir}/executor_output.json"
    return uris


def restore_uris(executor_output: dict[str, Any], uris: dict[str, str]) -> None:
    """Reverts ``open_artifacts`` in an ExecutorOutput, in place."""
    for artifacts in executor_output.get("artifacts", {}).values():
        for artifact in artifacts.get("artifacts", []):
            artifact["uri"] = uris.get(artifact["uri"], artifact["uri"])


def _run(flags: argparse.Namespace, beam_args: list[str]) -> None:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    kubeflow_v2_run_executor.main((flags, beam_args))


def _exit(code: int) -> None:
    """Ends the process without running destructors: that of tensorflow-io's S3 file system aborts.

    Exit handlers do run: Beam stops its job server in one, and for the launcher, a step whose job
    server is still running never ends.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
        _exit(1)
    _exit(0)
