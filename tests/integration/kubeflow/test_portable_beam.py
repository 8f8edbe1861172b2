"""ExampleGen and Transform on Beam's portable runner give what they give on the direct one."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

from model.config_types import from_dict
from pipeline.config import RunConfig
from pipeline.kubeflow import spec
from pipeline.kubeflow.compile import compile_pipeline
from pipeline.kubeflow.ir_runner import IrRunner
from tests.e2e import planted

pytestmark = pytest.mark.slow

_IMAGE = "registry/mind@sha256:" + "0" * 64
_SERVICE = "apache_beam.runners.portability.local_job_service_main"


@pytest.fixture
def job_endpoint(tmp_path):
    """A job service in a process of its own, as a Flink or Spark one would be."""
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", _SERVICE, f"--port_file={port_file}"]
    with (tmp_path / "service.log").open("w") as log:
        service = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not port_file.exists() or not port_file.read_text():
            assert service.poll() is None, (tmp_path / "service.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"localhost:{port_file.read_text()}"
    finally:
        service.terminate()
        service.wait()


def _run(folder: Path, log: Path, beam_args: list[str]) -> dict[str, list[bytes]]:
    config = from_dict(
        RunConfig,
        {
            "name": "beam",
            "data": {
                "interactions": {
                    "files": [str(log)],
                    "user_column": "who",
                    "item_column": "what",
                    "timestamp_column": "when",
                },
                "num_shards": 2,
            },
            "kubeflow": {
                "storage_root": str(folder / "storage"),
                "beam_args": beam_args,
                "default_step": {"retries": 0},
                "steps": {name: {"retries": 0} for name in ("example-gen", "transform")},
            },
        },
    )
    pipeline = spec.parse(compile_pipeline(config, _IMAGE).to_yaml())
    runner = IrRunner(pipeline, folder)
    results = runner.run({}, until="transform")
    assert {r.state for r in results.values()} == {"succeeded"}, results["transform"].error
    examples = runner.output_path(results["example-gen"], "examples")
    transformed = runner.output_path(results["transform"], "transformed_examples")
    graph = runner.output_path(results["transform"], "transform_graph")
    vocabularies = graph.glob("transform_fn/assets/*")
    return {
        "examples": _records(examples),
        "transformed": _records(transformed),
        "vocabularies": sorted(path.name.encode() + path.read_bytes() for path in vocabularies),
    }


def _records(folder: Path) -> list[bytes]:
    files = sorted(str(path) for path in folder.glob("Split-*/*.gz"))
    assert files
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()
    # The order of features within a tf.Example is not defined.
    return sorted(
        tf.train.Example.FromString(record).SerializeToString(deterministic=True)
        for record in records
    )


def test_portable_runner_gives_the_same_output(job_endpoint, tmp_path):
    log = tmp_path / "log.csv"
    planted.write_log(log, people=60)
    direct = _run(tmp_path / "direct", log, [])
    portable = _run(
        tmp_path / "portable",
        log,
        [
            "--runner=PortableRunner",
            f"--job_endpoint={job_endpoint}",
            "--environment_type=LOOPBACK",
        ],
    )
    assert len(direct["transformed"]) > 60
    assert direct["vocabularies"]
    assert portable == direct
