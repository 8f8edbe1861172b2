"""Measures latency and throughput of the served endpoint, beside FAISS behind FastAPI.

The benchmark builds bundles around a synthetic tower (benchmarks.index), serves
each with the embedded server, and sends requests from another process. In a
closed loop, the next request follows the answer. In an open loop, which is run
for requests of one history, requests are due at random times at half of the
closed loop's rate, and their latency counts from when they were due. In the same
run, the same requests go to FAISS (flat and HNSW) behind FastAPI, in an
environment that uv creates. HNSW gets the smallest efSearch that reaches the
recall for which the ScaNN index is tuned. Recall is measured against exact
search in NumPy, for people with whom no index was tuned.

  python -m benchmarks.serving --items 10000 100000 1000000 --json out.json

Traffic stays on the loopback interface, and --seconds limits every loop.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.index import RECALL_K, RECALL_PEOPLE, run_step
from benchmarks.processes import embedded_server, is_answering, running, wait_for

_BATCHES = (1, 32)
_HNSW_EF_SEARCH = (64, 128, 256, 512, 1024, 2048)
# The warm-up ends at the first of these limits.
_WARM_UP_REQUESTS = 20
_WARM_UP_SECONDS = 2.0
_COLUMNS = {
    "items": 8,
    "server": 15,
    "api": 5,
    "loop": 7,
    "batch": 6,
    "qps": 9,
    "people_s": 9,
    "p50_ms": 8,
    "p95_ms": 8,
    "p99_ms": 8,
    "cpu": 6,
    "rss_mb": 7,
    "recall": 7,
}


def main() -> None:
    """Prints one line per server, API, loop and batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kinds", nargs="*", default=["exact", "scann"])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each loop")
    parser.add_argument(
        "--recall_target",
        type=float,
        default=0.98,
        help="recall for which ScaNN and HNSW are tuned",
    )
    parser.add_argument("--baselines", nargs="*", default=["flat", "hnsw"])
    parser.add_argument(
        "--work_dir", type=Path, help="directory that keeps what is built for the next run"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    # Without a handler, SIGTERM would end this process without ending the servers it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(" ".join(f"{name:>{width}}" for name, width in _COLUMNS.items()), flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for items in arguments.items:
            folder = (arguments.work_dir or Path(temporary)) / f"{items}x{arguments.dimensions}"
            folder.mkdir(parents=True, exist_ok=True)
            rows += _measure_size(folder, items, arguments)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=2))


def _measure_size(folder: Path, items: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    if not (folder / "requests.json").exists():
        run_step("trained", folder, items, arguments.dimensions)
        run_step("requests", folder, RECALL_PEOPLE)
    servers: list[tuple[str, tuple[str, ...]]] = [
        (kind, ("grpc", "rest")) for kind in arguments.kinds
    ]
    servers += [(f"faiss-{kind}", ("rest",)) for kind in arguments.baselines]
    for name, apis in servers:
        if name.startswith("faiss-"):
            starting = _faiss_server(folder / "trained", name.removeprefix("faiss-"))
        else:
            bundle = folder / f"{name}-{arguments.recall_target:g}"
            if not bundle.exists():
                run_step("build", folder, name, arguments.recall_target)
                (folder / name).rename(bundle)
            starting = embedded_server(bundle)
        with starting as target:
            recall = _recall(folder, target, apis[-1], name, arguments.recall_target)
            for api in apis:
                for batch in _BATCHES:
                    row = {"items": items, "server": name, "api": api, "batch": batch}
                    row["recall"] = round(recall, 4)
                    closed = _measure("closed", folder, target, api, batch, arguments.seconds, 0.0)
                    rows.append(row | closed)
                    _print(rows[-1])
                    if batch == 1:
                        rate = closed["qps"] / 2
                        opened = _measure(
                            "open", folder, target, api, batch, arguments.seconds, rate
                        )
                        rows.append(row | opened)
                        _print(rows[-1])
    return rows


def _recall(
    folder: Path, target: dict[str, Any], api: str, name: str, recall_target: float
) -> float:
    """Returns the share of the exact top items that the server finds.

    For HNSW it first sets the smallest efSearch that reaches ``recall_target``, or the largest.
    """
    exact = json.loads((folder / "requests.json").read_text())["exact"]
    recall = 0.0
    for ef_search in _HNSW_EF_SEARCH if name == "faiss-hnsw" else (None,):
        if ef_search:
            httpx.post(f"{target['rest']}/ef_search/{ef_search}").raise_for_status()
        found = _load("answers", folder, target, api, 32, 0.0, 0.0)["answers"]
        shares = [len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]
        recall = float(np.mean(shares))
        if recall >= recall_target:
            break
    return recall


def _measure(
    loop: str,
    folder: Path,
    target: dict[str, Any],
    api: str,
    batch: int,
    seconds: float,
    rate: float,
) -> dict[str, Any]:
    figures = _load(loop, folder, target, api, batch, seconds, rate)
    server = psutil.Process(target["pid"])
    processes = [server, *server.children(recursive=True)]  # a peer's server is a child of uv
    memory = sum(process.memory_info().rss for process in processes)
    return figures | {"loop": loop, "rss_mb": round(memory / 1e6)}


def _print(row: dict[str, Any]) -> None:
    print(" ".join(f"{row[name]!s:>{width}}" for name, width in _COLUMNS.items()), flush=True)


@contextlib.contextmanager
def _faiss_server(model_dir: Path, kind: str) -> Iterator[dict[str, Any]]:
    from benchmarks import peers  # imports TensorFlow, which the load generator does without

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    index_file = model_dir.parent / f"{kind}.faiss"
    command = peers.command("faiss", [str(model_dir), kind, str(port), str(index_file)])
    log = model_dir.parent / f"faiss-{kind}.log"
    with running(command, log, peers.environment()) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: is_answering(f"{url}/health"))
        yield {"pid": process.pid, "kind": "faiss", "rest": url}


def _load(
    loop: str,
    folder: Path,
    target: dict[str, Any],
    api: str,
    batch: int,
    seconds: float,
    rate: float,
) -> dict[str, Any]:
    """Runs ``load_step`` in its own process and returns its figures."""
    spec = {
        **{"loop": loop, "requests": str(folder / "requests.json"), "target": target, "api": api},
        **{"batch": batch, "seconds": seconds, "rate": rate},
    }
    command = [sys.executable, "-c", "from benchmarks import serving; serving.load_step()"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(
        [*command, json.dumps(spec)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ).stdout
    return json.loads(output.splitlines()[-1])


def load_step() -> None:
    """Runs the load generator: sends requests and prints the figures, or the answers, as JSON."""
    spec = json.loads(sys.argv[1])
    people_of = json.loads(Path(spec["requests"]).read_text())
    send = _sender(spec)
    batch = spec["batch"]
    if spec["loop"] == "answers":
        people = people_of["asked"]
        batches = [people[i : i + batch] for i in range(0, len(people), batch)]
        answers = [ids for part in batches for ids in send(send.encode(part), decode=True)]
        print(json.dumps({"answers": answers}))
        return
    generator = random.Random(0)
    requests = [send.encode(generator.choices(people_of["histories"], k=batch)) for _ in range(64)]
    warm = time.perf_counter() + _WARM_UP_SECONDS
    for request in requests[:_WARM_UP_REQUESTS]:
        send(request)
        if time.perf_counter() > warm:
            break
    run = _closed_loop if spec["loop"] == "closed" else _open_loop
    before = _cpu_seconds(spec["target"]["pid"])
    latencies, elapsed = run(send, requests, spec["seconds"], spec["rate"])
    used = _cpu_seconds(spec["target"]["pid"]) - before
    p50, p95, p99 = np.percentile(np.array(latencies) * 1e3, [50, 95, 99])
    figures = {
        "qps": len(latencies) / elapsed,
        "people_s": batch * len(latencies) / elapsed,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "cpu": used / elapsed,
    }
    print(json.dumps({name: round(float(value), 2) for name, value in figures.items()}))


def _cpu_seconds(pid: int) -> float:
    """Returns the CPU-seconds that the server has used; a peer's server is a child of uv."""
    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _closed_loop(
    send: Any, requests: list[Any], seconds: float, rate: float
) -> tuple[list[float], float]:
    latencies: list[float] = []
    start = time.perf_counter()
    while (began := time.perf_counter()) < start + seconds:
        send(requests[len(latencies) % len(requests)])
        latencies.append(time.perf_counter() - began)
    return latencies, time.perf_counter() - start


def _open_loop(
    send: Any, requests: list[Any], seconds: float, rate: float
) -> tuple[list[float], float]:
    """Sends requests at Poisson times from a few threads; a late start counts as latency."""
    from concurrent.futures import ThreadPoolExecutor

    generator = random.Random(1)
    due, times = 0.0, []
    while (due := due + generator.expovariate(rate)) < seconds:
        times.append(due)
    start = time.perf_counter()

    def one(numbered: tuple[int, float]) -> float:
        position, due = numbered
        time.sleep(max(0.0, start + due - time.perf_counter()))
        send(requests[position % len(requests)])
        return time.perf_counter() - start - due

    with ThreadPoolExecutor(8) as threads:
        latencies = list(threads.map(one, enumerate(times)))
    return latencies, time.perf_counter() - start


def _sender(spec: dict[str, Any]) -> Any:
    target = spec["target"]
    if spec["api"] == "grpc":
        return _Grpc(target["grpc"])
    if target["kind"] == "faiss":
        return _Rest(f"{target['rest']}/recommend", columns=False)
    return _Rest(f"{target['rest']}/v1/models/mind:predict", columns=True)


class _Rest:
    """Sends encoded JSON bodies, and parses a response only if its answer is wanted."""

    def __init__(self, url: str, columns: bool):
        self._url, self._columns = url, columns
        self._http = httpx.Client(timeout=60.0, headers={"content-type": "application/json"})

    def encode(self, histories: list[list[str]]) -> bytes:
        inputs = {"history": histories, "k": RECALL_K}
        return json.dumps({"inputs": inputs} if self._columns else inputs).encode()

    def __call__(self, body: bytes, decode: bool = False) -> list[list[str]]:
        response = self._http.post(self._url, content=body).raise_for_status()
        if not decode:
            return []
        answer = response.json()
        return (answer["outputs"] if self._columns else answer)["item_ids"]


class _Grpc:
    """Sends Predict requests over gRPC."""

    def __init__(self, address: str):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        options = [("grpc.max_receive_message_length", -1)]
        channel = grpc.insecure_channel(address, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def encode(self, histories: list[list[str]]) -> Any:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = "mind"
        request.inputs["history"].CopyFrom(tf.make_tensor_proto(histories))
        request.inputs["k"].CopyFrom(tf.make_tensor_proto(np.int32(RECALL_K)))
        return request

    def __call__(self, request: Any, decode: bool = False) -> list[list[str]]:
        response = self._stub.Predict(request, 60.0)
        if not decode:
            return []
        import tensorflow as tf

        return tf.make_ndarray(response.outputs["item_ids"]).astype(str).tolist()


if __name__ == "__main__":
    main()
