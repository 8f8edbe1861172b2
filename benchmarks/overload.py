"""Measures how the endpoint behaves under overload, compared with what it promises.

The benchmark serves a bundle around a synthetic tower (benchmarks.index) with the default limits.
Other processes send these loads over the loopback interface:

- "one row alone", then "one row beside a crowd": one connection sends requests with one history,
  first alone and then beside 300 connections that send 64 histories at a time (and after a refusal
  wait for about a second, as its Retry-After says);
- "capacity": 16 connections send 64 histories at a time in a closed loop; "4 x capacity": requests
  arrive at four times that rate, regardless of the answers.

Meanwhile, /health is requested about ten times a second. "refused" is the number of answers other
than 200 that the clients got, "counted" the number of refusals in the server's own metrics, and
"rss" the server's peak memory, relative to its memory after a first load that warms it up.

  python -m benchmarks.overload --json out.json
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import load
from benchmarks.load import Load
from benchmarks.processes import embedded_server
from benchmarks.shell import built_bundle, encoded

_CROWD = 300
_CROWD_ROWS = 64
_CAPACITY_CONNECTIONS = 16
_OVERLOAD = 4
_OVERLOAD_CONNECTIONS = 400
_K = 20
_COLUMNS = {
    "api": 5,
    "load": 24,
    "served_s": 9,
    "p50_ms": 8,
    "p95_ms": 8,
    "p99_ms": 8,
    "refused": 8,
    "counted": 8,
    "refused_p95": 12,
    "health_p99": 11,
    "rss": 5,
}


def main() -> None:
    """Prints one line per API and load, and for each API how it compares with the promises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kind", default="scann", choices=["exact", "scann"])
    parser.add_argument("--apis", nargs="*", default=["rest", "grpc"])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load")
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
        for api in arguments.apis:
            with embedded_server(bundle) as server:
                rows += _Overload(api, server, histories, arguments.seconds).rows()
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


class _Overload:
    """The loads of one API on one server."""

    def __init__(
        self, api: str, server: dict[str, Any], histories: list[list[str]], seconds: float
    ):
        self._api = api
        self._server = server
        self._seconds = seconds
        self._port = int(server[api].rsplit(":", 1)[1])
        self._small = encoded(api, histories[:1], _K)
        self._large = encoded(api, histories[:_CROWD_ROWS], _K)
        self._process = psutil.Process(server["pid"])
        # This load makes the server start its threads and allocate its buffers and TensorFlow's.
        load.measure(self._load(self._large, _CAPACITY_CONNECTIONS))
        self._idle_bytes = self._process.memory_info().rss

    def rows(self) -> list[dict[str, Any]]:
        """Runs the loads; prints and returns their figures."""
        small = self._load(self._small, 1, pause=0.01)
        crowd = self._load(self._large, _CROWD, pause_refused=1.0)
        alone = self._run("one row alone", small)
        beside = self._run("one row beside a crowd", small, beside=crowd)
        capacity = self._run("capacity", self._load(self._large, _CAPACITY_CONNECTIONS))
        rate = _OVERLOAD * capacity["served_s"]
        overload = self._run(
            f"{_OVERLOAD} x capacity", self._load(self._large, _OVERLOAD_CONNECTIONS, rate=rate)
        )
        print(
            f"  p95 beside a crowd / alone {beside['p95_ms'] / alone['p95_ms']:.1f} (at most 5);"
            f" served at {_OVERLOAD} x capacity / capacity"
            f" {overload['served_s'] / capacity['served_s']:.2f} (at least 0.9)",
            flush=True,
        )
        return [alone, beside, capacity, overload]

    def _load(self, request: bytes, connections: int, **others: float) -> Load:
        return Load(self._api, self._port, request, connections, self._seconds, **others)  # type: ignore[arg-type]

    def _run(self, name: str, measured: Load, beside: Load | None = None) -> dict[str, Any]:
        health = Load(
            "rest",
            int(self._server["rest"].rsplit(":", 1)[1]),
            b"",
            1,
            self._seconds,
            method="GET",
            path="/health",
            pause=0.1,
        )
        refused_before = self._refused()
        with _PeakMemory(self._process) as memory:
            others = [load.start(other) for other in (health, beside) if other]
            if beside:
                time.sleep(1.0)  # until the crowd has connected
            found = load.measure(measured)
            results = [load.result(process) for process in others]
        refused = sum(number for status, number in found["statuses"].items() if status != "200")
        crowd = results[1]["statuses"] if beside else {}
        row = {
            "api": self._api,
            "load": name,
            "served_s": found["rate"],
            **{key: found[key] for key in ("p50_ms", "p95_ms", "p99_ms")},
            "refused": refused + sum(number for status, number in crowd.items() if status != "200"),
            "counted": int(self._refused() - refused_before),
            "refused_p95": found["refused_p95_ms"],
            "health_p99": results[0]["p99_ms"],
            "rss": round(memory.peak_bytes / self._idle_bytes, 2),
        }
        print(" ".join(f"{row[key]!s:>{width}}" for key, width in _COLUMNS.items()), flush=True)
        return row

    def _refused(self) -> float:
        text = httpx.get(f"{self._server['rest']}/metrics", timeout=60.0).text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("serving_refused_requests_total{")
        )


class _PeakMemory:
    """Finds the peak memory of a process while the block runs, by looking every 50 ms."""

    def __init__(self, process: psutil.Process):
        self._process = process
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_bytes = 0

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


if __name__ == "__main__":
    main()
