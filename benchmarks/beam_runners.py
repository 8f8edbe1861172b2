"""Measures ExampleGen and Transform on each Beam runner: time and memory at growing sizes.

    python -m benchmarks.beam_runners --events 1000000 10000000 --json runners.json
    mvn -q -f deploy/beam package && python -m benchmarks.beam_runners --runners flink spark

The benchmark runs the compiled pipeline's own steps as Kubeflow would run them. Flink and Spark run
on the local cluster inside Beam's job server. Memory is the total of all processes.
"""

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from benchmarks.ingest import measure, write_log
from contract.config_types import from_dict
from devtools.ir_runner import IrRunner
from pipeline.config import RunConfig
from pipeline.kubeflow import spec
from pipeline.kubeflow.compile import compile_pipeline

_JOB_SERVERS = Path(__file__).parents[1] / "deploy" / "beam"
_JOB_SERVICE = "apache_beam.runners.portability.local_job_service_main"
_STEPS = ("example-gen", "transform")
_START_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Result:
    """One runner at one size.

    Attributes:
      runner: Name of the runner.
      events: Size of the log.
      seconds: Duration by step.
      peak_gigabytes: Peak memory of all processes together, over the steps up to Transform.
    """

    runner: str
    events: int
    seconds: dict[str, float]
    peak_gigabytes: float


@contextlib.contextmanager
def beam_args(runner: str, folder: Path, flags: argparse.Namespace) -> Iterator[list[str]]:
    """Beam options of ``runner``, with what it needs started around them."""
    if runner == "direct":
        yield []
    elif runner == "multi_processing":
        yield ["--direct_running_mode=multi_processing", "--direct_num_workers=0"]
    elif runner == "portable":
        with _job_service(folder) as endpoint:
            yield [
                "--runner=PortableRunner",
                f"--job_endpoint={endpoint}",
                "--environment_type=LOOPBACK",
            ]
    else:
        jar = getattr(flags, f"{runner}_job_server_jar")
        if not jar.exists():
            raise SystemExit(f"{jar} is missing: mvn -q -f deploy/beam package")
        yield [
            f"--runner={runner.capitalize()}Runner",
            f"--{runner}_job_server_jar={jar}",
            "--environment_type=LOOPBACK",
        ]


@contextlib.contextmanager
def _job_service(folder: Path) -> Iterator[str]:
    port_file = folder / "port"
    service = subprocess.Popen(
        [sys.executable, "-m", _JOB_SERVICE, f"--port_file={port_file}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (port_file.exists() and port_file.read_text()):
            if time.monotonic() > deadline or service.poll() is not None:
                raise SystemExit("Beam's job service did not start")
            time.sleep(0.2)
        yield f"localhost:{port_file.read_text()}"
    finally:
        service.terminate()
        service.wait()


def run(runner: str, num_events: int, flags: argparse.Namespace) -> Result:
    """Measures one runner at one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log.csv"
        write_log(str(log), num_events)
        with beam_args(runner, folder, flags) as arguments:
            config = from_dict(
                RunConfig,
                {
                    "data": {"interactions": {"files": [str(log)]}, "min_item_interactions": 5},
                    "kubeflow": {"beam_args": arguments, "storage_root": str(folder / "storage")},
                },
            )
            compiled = compile_pipeline(config, "none:0")
            ir_runner = IrRunner(spec.parse(compiled.to_yaml()), folder / "ir")
            results = {}
            figures = measure(lambda: results.update(ir_runner.run({}, until="transform")))
    for step, result in results.items():
        if result.state != "succeeded":
            raise SystemExit(f"{runner}: step {step} {result.state}: {result.error}")
    seconds = {step: results[step].seconds for step in _STEPS}
    return Result(runner, num_events, seconds, figures["peak_gigabytes"])


def main() -> None:
    """Runs the requested measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument(
        "--runners",
        nargs="+",
        default=["direct", "multi_processing", "portable"],
        choices=["direct", "multi_processing", "portable", "flink", "spark"],
    )
    for name in ("flink", "spark"):
        parser.add_argument(
            f"--{name}_job_server_jar",
            type=Path,
            default=_JOB_SERVERS / name / "target" / f"{name}-job-server.jar",
        )
    parser.add_argument("--json", default="", help="also write the figures here")
    flags = parser.parse_args()
    results = []
    for num_events in flags.events:
        for runner in flags.runners:
            result = run(runner, num_events, flags)
            results.append(dataclasses.asdict(result))
            print(
                f"{num_events:>12,} events  {runner:<17} "
                + "  ".join(f"{step} {result.seconds[step]:8.1f} s" for step in _STEPS)
                + f"  peak {result.peak_gigabytes:6.2f} GB",
                flush=True,
            )
    if flags.json:
        Path(flags.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
