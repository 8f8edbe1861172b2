"""The compiled pipeline with ``remote_artifacts``: everything on ``s3://``, nothing copied.

Every step runs through its entry point, but all in one process, which imports
TensorFlow once.
"""

import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from tests.integration.kubeflow import s3

_ENTRY_POINT = ["python", "-m", "pipeline.kubeflow.entrypoint"]
_IMAGE = "registry/mind@sha256:" + "0" * 64


@pytest.mark.slow
def test_every_step_reads_and_writes_the_store_itself(tmp_path):
    with s3.server() as environment:
        finished = subprocess.run(
            [sys.executable, __file__, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def _run_here(command, *, env, **_):
    """Stands in for ``subprocess.run`` where the runner starts a step."""
    from pipeline.kubeflow import entrypoint

    assert command[:3] == _ENTRY_POINT
    os.environ.update(env)
    try:
        entrypoint.main(command[3:])
    except Exception:
        traceback.print_exc()
        return SimpleNamespace(returncode=1)
    return SimpleNamespace(returncode=0)


def _config(storage):
    from contract.config_types import from_dict
    from pipeline.config import RunConfig

    return from_dict(
        RunConfig,
        {
            "name": "remote",
            "data": {
                "interactions": {
                    "files": [f"{storage}/log.csv"],
                    "user_column": "who",
                    "item_column": "what",
                    "timestamp_column": "when",
                }
            },
            "training": {"max_steps": 30, "batch_size": 64, "num_negatives": 32},
            "evaluation": {"min_lift_over_popularity": -1.0, "confidence_intervals": False},
            "index": {"num_queries": 60},
            "kubeflow": {
                "pipeline_root": f"{storage}/artifacts",
                "remote_artifacts": True,
                "object_store": {"endpoint": os.environ["S3_ENDPOINT"]},
            },
        },
    )


def run_pipeline(folder: Path) -> None:
    """Runs the pipeline and checks where its artifacts are."""
    from tfx.dsl.io import fileio

    from devtools import ir_runner
    from pipeline.kubeflow import spec
    from pipeline.kubeflow.compile import compile_pipeline
    from pipeline.kubeflow.entrypoint import open_file_systems
    from retrieval.manifest import list_files
    from retrieval.versions import complete_versions
    from tests.e2e import planted

    open_file_systems([])
    storage = f"s3://{s3.BUCKET}"
    log = folder / "log.csv"
    planted.write_log(log, people=100)
    fileio.copy(str(log), f"{storage}/log.csv")

    pipeline = spec.parse(compile_pipeline(_config(storage), _IMAGE).to_yaml())
    for task in pipeline.spec.root.dag.tasks.values():
        task.ClearField("retry_policy")
    runner = ir_runner.IrRunner(pipeline, folder / "ir")
    runner_subprocess = SimpleNamespace(
        run=_run_here, STDOUT=subprocess.STDOUT, DEVNULL=subprocess.DEVNULL
    )
    with mock.patch.object(ir_runner, "subprocess", runner_subprocess):
        results = runner.run({})

    assert {name: result.state for name, result in results.items()} == dict.fromkeys(
        pipeline.spec.root.dag.tasks, "succeeded"
    )
    artifacts = [artifact for r in results.values() for artifact in r.outputs.values()]
    for artifact in artifacts:
        assert artifact["uri"].startswith(f"{storage}/artifacts/"), artifact
    # The launcher's own file; it holds no artifact.
    local = {path.name for path in (folder / "ir" / "pod").rglob("*") if path.is_file()}
    assert local <= {"output_metadata.json"}
    pushed = results["pusher"].outputs["pushed_model"]["metadata"]
    destination, version = os.path.split(pushed["pushed_destination"])
    assert complete_versions(destination) == [version]
    bundle = results["index-builder"].outputs["model"]["uri"] + "/Format-Serving"
    assert list_files(pushed["pushed_destination"]) == list_files(bundle)


if __name__ == "__main__":
    try:
        run_pipeline(Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # TensorFlow's S3 file system aborts in its destructors
