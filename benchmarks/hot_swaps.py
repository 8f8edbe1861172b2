"""Measures whether a server that swaps versions repeatedly keeps its memory and its callers.

A bundle around a synthetic tower (benchmarks.index) is pushed repeatedly, as hard links under the
next number, and the previous version is removed once it has been unloaded. Meanwhile four
connections send requests over REST, with a pause of 10 ms after each answer. A line is the median
of 20 swaps: resident memory, open file descriptors and threads, read when the previous version has
been unloaded.

  python -m benchmarks.hot_swaps --json out.json
"""

import argparse
import collections
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import load
from benchmarks.load import Load
from benchmarks.processes import served, wait_for
from benchmarks.shell import built_bundle, encoded

_PART = 20  # swaps of a line
_CONNECTIONS = 4
_LOAD_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_MODEL = "/v1/models/mind"
_MEBIBYTE = 2**20


def main() -> None:
    """Prints one line per 20 swaps, then compares the last line with the second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kind", default="scann", choices=["exact", "scann"])
    parser.add_argument("--work_dir", type=Path, help="keep what is built here, for the next run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if arguments.swaps < 3 * _PART:
        parser.error(f"--swaps must be at least {3 * _PART}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work_dir or Path(temporary)
        bundle = built_bundle(folder, arguments.items, arguments.dimensions, arguments.kind)
        histories = json.loads((bundle.parent / "requests.json").read_text())["histories"]
        # Beside the bundle, because hard links are of one file system.
        with tempfile.TemporaryDirectory(dir=folder) as base:
            rows = _swap(bundle, Path(base), encoded("rest", histories[:1], 20), arguments.swaps)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


def _swap(bundle: Path, base: Path, request: bytes, swaps: int) -> list[dict[str, Any]]:
    """Measures after every swap; prints medians."""
    _push(bundle, base, 1)
    rows: list[dict[str, Any]] = []
    flags = ("--settle_seconds", "0", "--file_system_poll_wait_seconds", "0.1")
    with served(base, bundle.with_name("hot_swaps.log"), *flags) as server:
        process = psutil.Process(server["pid"])
        port = int(server["rest"].rsplit(":", 1)[1])
        with _Load(
            Load("rest", port, request, _CONNECTIONS, _LOAD_SECONDS, pause=_PAUSE_SECONDS)
        ) as asked:
            for version in range(2, swaps + 2):
                _push(bundle, base, version)
                started = time.perf_counter()
                wait_for(lambda: _states(server["rest"]) == {version: "AVAILABLE"})  # noqa: B023
                seconds = time.perf_counter() - started
                shutil.rmtree(base / str(version - 1))
                rows.append(
                    {
                        "swap": version - 1,
                        "seconds": seconds,
                        "rss_mb": process.memory_info().rss / _MEBIBYTE,
                        "descriptors": process.num_fds(),
                        "threads": process.num_threads(),
                    }
                )
                if len(rows) % _PART == 0:
                    _print(rows[-_PART:])
        statuses = asked.statuses
    first, last = (
        statistics.median(row["rss_mb"] for row in part)
        for part in (rows[_PART : 2 * _PART], rows[-_PART:])
    )
    print(f"last {_PART} beside swaps {_PART + 1} to {2 * _PART}: {last / first:.3f} of the memory")
    print(f"answers by status: {dict(statuses)}")
    return rows


def _push(bundle: Path, base: Path, version: int) -> None:
    """Makes a version of hard links, and its directory appear at once."""
    staging = base / f".staging-{version}"
    shutil.copytree(bundle, staging, copy_function=os.link)
    staging.rename(base / str(version))


def _states(url: str) -> dict[int, str]:
    """States by version, of those that have not ended."""
    body = httpx.get(f"{url}{_MODEL}", timeout=60.0).json()
    states = {int(s["version"]): s["state"] for s in body.get("model_version_status", [])}
    return {version: state for version, state in states.items() if state != "END"}


def _print(rows: list[dict[str, Any]]) -> None:
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    print(
        f"swaps {rows[0]['swap']:>3} to {rows[-1]['swap']:>3}: {medians['rss_mb']:>7.1f} MiB,"
        f" {medians['descriptors']:>5.1f} descriptors, {medians['threads']:>5.1f} threads,"
        f" {medians['seconds']:.2f} s a swap",
        flush=True,
    )


class _Load:
    """Loads one after the other until the block ends."""

    def __init__(self, one: Load):
        self._one = one
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> "_Load":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            self.statuses.update(load.measure(self._one)["statuses"])


if __name__ == "__main__":
    main()
