"""The compiled pipeline in containers of the image, to the push.

Needs podman (or docker) and an image of deploy/Dockerfile:

  MIND_IMAGE=localhost/mind:test MIND_CONTAINER='podman run --rm' \
    python -m pytest -m slow tests/integration/kubeflow/test_image.py
"""

import os

import pytest

from contract.config_types import from_dict
from devtools.ir_runner import IrRunner
from pipeline.config import RunConfig
from pipeline.kubeflow import spec
from pipeline.kubeflow.compile import compile_pipeline
from tests.e2e import planted

# In the pod /minio is a volume; here the runner mounts a directory there.
_LOG = "/minio/data/log.csv"
_STORAGE = "/minio/storage"


@pytest.mark.slow
def test_every_step_runs_in_the_image(tmp_path):
    image = os.environ["MIND_IMAGE"]
    command = os.environ.get("MIND_CONTAINER", "podman run --rm").split()
    config = from_dict(
        RunConfig,
        {
            "name": "image",
            "data": {
                "interactions": {
                    "files": [_LOG],
                    "user_column": "who",
                    "item_column": "what",
                    "timestamp_column": "when",
                }
            },
            "training": {"max_steps": 30, "batch_size": 256, "num_negatives": 128},
            "evaluation": {"min_lift_over_popularity": -1.0, "confidence_intervals": False},
            "kubeflow": {"storage_root": _STORAGE},
        },
    )
    runner = IrRunner(
        spec.parse(compile_pipeline(config, image).to_yaml()), tmp_path, container_command=command
    )
    log = tmp_path / "pod" / _LOG.removeprefix("/")
    log.parent.mkdir(parents=True)
    planted.write_log(log, people=100)
    results = runner.run({})
    failed = {name: result.error for name, result in results.items() if result.error}
    assert not failed
    pushed = tmp_path / "pod" / _STORAGE.removeprefix("/") / "serving_models" / "image"
    version = results["pusher"].outputs["pushed_model"]["metadata"]["pushed_version"]
    assert (pushed / version / "saved_model.pb").exists()
