"""ExampleGen and Transform on Beam's portable runners give what they give on the direct one."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from contract.config_types import from_dict
from devtools.ir_runner import IrRunner
from pipeline.config import RunConfig
from pipeline.kubeflow import spec
from pipeline.kubeflow.compile import compile_pipeline
from tests.e2e import planted

pytestmark = pytest.mark.slow

_IMAGE = "registry/mind@sha256:" + "0" * 64
_JOB_SERVERS = Path(__file__).parents[3] / "deploy" / "beam"
_SERVICE = "apache_beam.runners.portability.local_job_service_main"


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    planted.write_log(path, people=60)
    return path


@pytest.fixture(scope="module")
def direct(log, tmp_path_factory) -> dict[str, list[bytes]]:
    return _run(tmp_path_factory.mktemp("direct"), log, [])


@pytest.fixture(scope="module")
def job_servers() -> Path:
    """Folder of the job servers with embedded clusters, built by Maven."""
    subprocess.run(["mvn", "-q", "-B", "-f", str(_JOB_SERVERS), "package"], check=True)
    return _JOB_SERVERS


@contextlib.contextmanager
def _service(command: list[str], started: Callable[[], bool], log: Path) -> Iterator[None]:
    """A job service in a process of its own."""
    with log.open("w") as file:
        service = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not started():
            assert service.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        service.terminate()
        service.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def _beam_args(port: int) -> list[str]:
    return [
        "--runner=PortableRunner",
        f"--job_endpoint=localhost:{port}",
        "--environment_type=LOOPBACK",
    ]


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


def test_beams_own_job_service_gives_the_same_output(direct, log, tmp_path):
    assert len(direct["transformed"]) > 60
    assert direct["vocabularies"]
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", _SERVICE, f"--port_file={port_file}"]

    def started() -> bool:
        return port_file.exists() and bool(port_file.read_text())

    with _service(command, started, tmp_path / "service.log"):
        assert _run(tmp_path, log, _beam_args(int(port_file.read_text()))) == direct


@pytest.mark.parametrize(
    ("cluster", "sign"),
    [
        ("flink", "switched from state RUNNING to FINISHED"),
        ("spark", "INFO DAGScheduler: Job 0 finished"),
    ],
    ids=["flink", "spark"],
)
def test_embedded_cluster_gives_the_same_output(cluster, sign, job_servers, direct, log, tmp_path):
    port = _free_port()
    command = [
        *("java", "-jar", str(job_servers / cluster / "target" / f"{cluster}-job-server.jar")),
        *("--job-port", str(port), "--artifact-port", "0", "--expansion-port", "0"),
        *("--artifacts-dir", str(tmp_path / "staged")),
    ]
    server_log = tmp_path / "server.log"
    with _service(command, lambda: _is_listening(port), server_log):
        assert _run(tmp_path, log, _beam_args(port)) == direct
    assert sign in server_log.read_text()
