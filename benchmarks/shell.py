"""Measures the server's overhead: requests per second, compared with servers that do nothing.

A bundle around a synthetic tower (benchmarks.index) is served ("mind") and receives requests of one
history each in closed loops of 1, 8, 32 and 128 connections, over REST and gRPC. In the same run,
the same requests go to two servers that only read the request and return the same bytes
(benchmarks.echo: aiohttp, grpc.aio), and to our server around a graph that takes the same inputs
and returns the same answer without computing it ("shell"). "model" is the time in which threads ran
the graph, per second, and "cpu" is the processor time of the server per second.

  python -m benchmarks.shell --json out.json

Traffic stays on the loopback interface, and --seconds limits every loop.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import load
from benchmarks.index import run_step
from benchmarks.processes import embedded_server, ports, running, wait_for

_CONNECTIONS = (1, 8, 32, 128)
_PEOPLE = 192
_K = 20
_COLUMNS = {
    "api": 5,
    "connections": 11,
    "server": 9,
    "rate": 9,
    "of_echo": 8,
    "p50_ms": 8,
    "p95_ms": 8,
    "p99_ms": 8,
    "cpu": 6,
    "model": 6,
}


def main() -> None:
    """Prints one line per API, number of connections and server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kind", default="scann", choices=["exact", "scann"])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each loop")
    parser.add_argument("--workers", type=int, default=1, help="processes of our server")
    parser.add_argument(
        "--work_dir", type=Path, help="directory that keeps the bundle for the next run"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    print(" ".join(f"{name:>{width}}" for name, width in _COLUMNS.items()), flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work_dir or Path(temporary)
        bundle = built_bundle(folder, arguments.items, arguments.dimensions, arguments.kind)
        histories = json.loads((bundle.parent / "requests.json").read_text())["histories"]
        workers = ("--workers", str(arguments.workers))
        with (
            embedded_server(bundle, *workers) as mind,
            embedded_server(_constant_model(folder, mind, histories), *workers) as shell,
            _echo(folder, mind, histories) as echo,
        ):
            targets = {"echo": echo, "shell": shell, "mind": mind}
            for api in ("rest", "grpc"):
                request = encoded(api, histories[:1], _K)
                for connections in _CONNECTIONS:
                    for row in _compare(api, request, connections, targets, arguments.seconds):
                        rows.append(row)
                        print(
                            " ".join(f"{row[name]!s:>{width}}" for name, width in _COLUMNS.items()),
                            flush=True,
                        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


def built_bundle(folder: Path, items: int, dimensions: int, kind: str) -> Path:
    """Returns a bundle around a synthetic tower, which is built if it does not exist.

    Args:
      folder: Directory that keeps bundles of several sizes.
      items: Number of items.
      dimensions: Number of dimensions.
      kind: Kind of index, ``exact`` or ``scann``.

    Returns:
      The directory of the bundle; ``requests.json`` is beside it.
    """
    folder = folder / f"{items}x{dimensions}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "requests.json").exists():
        run_step("trained", folder, items, dimensions)
        run_step("requests", folder, _PEOPLE)
    if not (folder / kind).exists():
        run_step("build", folder, kind, 0.98)
    return folder / kind


def encoded(api: str, histories: list[list[str]], k: int) -> bytes:
    """Returns an encoded predict request: the body for ``rest``, the message for ``grpc``."""
    if api == "rest":
        return json.dumps({"inputs": {"history": histories, "k": k}}).encode()
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mind"
    request.inputs["history"].CopyFrom(tf.make_tensor_proto(histories))
    request.inputs["k"].CopyFrom(tf.make_tensor_proto(np.int32(k)))
    return request.SerializeToString()


@contextlib.contextmanager
def _echo(
    folder: Path, server: dict[str, Any], histories: list[list[str]]
) -> Iterator[dict[str, Any]]:
    """Runs the echo servers, which always return the answer of ``server`` to the first history."""
    import grpc

    url = f"{server['rest']}/v1/models/mind:predict"
    rest = httpx.post(url, content=encoded("rest", histories[:1], _K)).raise_for_status().content
    with grpc.insecure_channel(server["grpc"]) as channel:
        call = channel.unary_unary(load.PREDICT_METHOD)
        answer = call(encoded("grpc", histories[:1], _K))
    (folder / "answer.json").write_bytes(rest)
    (folder / "answer.pb").write_bytes(answer)
    log = folder / "echo.log"
    files = [str(folder / "answer.json"), str(folder / "answer.pb")]
    with running([sys.executable, "-m", "benchmarks.echo", *files], log) as process:
        rest_port, grpc_port = wait_for(lambda: ports(log))
        yield {
            "pid": process.pid,
            "rest": f"http://127.0.0.1:{rest_port}",
            "grpc": f"127.0.0.1:{grpc_port}",
        }


def _constant_model(folder: Path, server: dict[str, Any], histories: list[list[str]]) -> Path:
    """Saves a graph that takes a history and ``k`` and returns a constant answer for each row."""
    import tensorflow as tf

    url = f"{server['rest']}/v1/models/mind:predict"
    answer = httpx.post(url, content=encoded("rest", histories[:1], _K)).raise_for_status().json()
    types = {"item_ids": tf.string, "scores": tf.float32}
    constants = {
        name: tf.constant(value, types.get(name, tf.int32))
        for name, value in answer["outputs"].items()
    }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "history"),
            tf.TensorSpec([], tf.int32, "k"),
        ]
    )
    def serve(history: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        del k
        rows = tf.shape(history)[0]
        return {name: tf.repeat(value, rows, axis=0) for name, value in constants.items()}

    module = tf.Module()
    module.serve = serve
    path = folder / "constant"
    tf.saved_model.save(module, str(path), {"serving_default": serve})
    return path


def _compare(
    api: str,
    request: bytes,
    connections: int,
    targets: dict[str, dict[str, Any]],
    seconds: float,
) -> Iterator[dict[str, Any]]:
    echo_rate = 0.0
    for name, target in targets.items():
        port = int(target[api].rsplit(":", 1)[1])
        before, ran = _cpu_seconds(target["pid"]), _run_seconds(target)
        found = load.measure(load.Load(api, port, request, connections, seconds))
        used = _cpu_seconds(target["pid"]) - before
        if set(found["statuses"]) != {"200"}:
            raise RuntimeError(f"{name} did not answer every request: {found['statuses']}")
        echo_rate = echo_rate or found["rate"]
        yield {
            "api": api,
            "connections": connections,
            "server": name,
            "of_echo": round(found["rate"] / echo_rate, 2),
            "cpu": round(used / seconds, 2),
            "model": round((_run_seconds(target) - ran) / seconds, 2),
            **{key: found[key] for key in ("rate", "p50_ms", "p95_ms", "p99_ms")},
        }


def _cpu_seconds(pid: int) -> float:
    """Returns the CPU-seconds that a server and its workers have used."""
    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children())]
    return sum(time.user + time.system for time in times)


def _run_seconds(server: dict[str, Any]) -> float:
    """Returns the seconds that the server's threads have spent in the model; 0 for the echo."""
    if "kind" not in server:
        return 0.0
    for line in httpx.get(f"{server['rest']}/metrics").text.splitlines():
        if line.startswith("serving_model_run_seconds_sum{"):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


if __name__ == "__main__":
    main()
