"""Measures the cost of requests by id instead of by history, and of storing events.

The benchmark fills a store with people, serves a synthetic bundle with it in its own process, and
requests the same people in turn by their ids and by their histories, one request after the other
and in batches, over REST. Before that, it reads from, writes to and erases from the store itself
without a server.

  python -m benchmarks.history_store --people 100000
"""

import argparse
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.index import run_step
from benchmarks.processes import served, wait_for
from contract.histories import Event, Person, Reported, Retention
from contract.history_store import Batch, HistoryStore, open_store

_MODEL = "mind"
_LENGTH = 50  # events of a person
_REQUESTS = 600
_BATCH = 32
_EVENTS = 100  # of one request that reports some
_AT_ONCE = 1000
_SERVERS = ("valkey-server", "redis-server")


def main() -> None:
    """Prints what was measured, one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        run_step("trained", folder, arguments.items, 64)
        run_step("build", folder, "exact", 0.98)
        base = work_dir / "base"
        base.mkdir()
        (base / "1").symlink_to(work_dir / "exact", target_is_directory=True)
        places: dict[str, contextlib.AbstractContextManager[str]] = {}
        places["sqlite"] = contextlib.nullcontext(str(work_dir / "store"))
        program = next(filter(None, map(shutil.which, _SERVERS)), None)
        if program:
            places["redis"] = _redis(program, work_dir)
        for kind, place in places.items():
            with place as location:
                people = Measured(location, arguments.people, arguments.items)
                rows |= {f"{kind}: {name}": value for name, value in people.store_rows().items()}
                flags = ("--history_store", location, "--history_days", "0")
                with (
                    served(base, work_dir / f"{kind}.log", *flags) as target,
                    httpx.Client(base_url=target["rest"], timeout=120) as http,
                ):
                    answers = people.server_rows(http)
                rows |= {f"{kind}: {name}": value for name, value in answers.items()}
    for name, value in rows.items():
        print(f"{name:<58} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


class Measured:
    """A store of people whose histories are known.

    Args:
      location: Where the store is.
      people: How many; named by numbers.
      items: Items of the catalogue.
    """

    def __init__(self, location: str, people: int, items: int):
        self._store: HistoryStore = open_store(location, _MODEL, Retention(days=0))
        self._people = people
        self._rng = np.random.default_rng(2)
        self._items = self._rng.integers(0, items, [people, _LENGTH])

    def store_rows(self) -> dict[str, Any]:
        """The store alone, in one thread."""
        rows: dict[str, Any] = {}
        started = time.perf_counter()
        for start in range(0, self._people, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, self._people))
            self._store.add([Batch({str(p): Reported(list(self._of(p).events)) for p in some})])
        rows["people filled in per second"] = round(self._people / _since(started))
        for size in (1, _BATCH):
            ids = self._rng.integers(0, self._people, [_REQUESTS, size]).astype(str).tolist()
            started = time.perf_counter()
            for row in ids:
                self._store.read(row)
            seconds = _since(started)
            rows[f"people looked up per second, {size} at a time"] = round(
                _REQUESTS * size / seconds
            )
        started = time.perf_counter()
        for number in range(_REQUESTS):
            who = str(self._rng.integers(self._people))
            self._store.add([Batch({who: Reported([Event(_LENGTH + 1, f"new-{number}")])})])
        rows["events per second, one at a time"] = round(_REQUESTS / _since(started))
        started = time.perf_counter()
        self._store.erase([f"{number}" for number in range(self._people - 100, self._people)])
        rows["seconds to erase 100 people"] = round(_since(started), 2)
        self._people -= 100
        return rows

    def server_rows(self, http: httpx.Client) -> dict[str, Any]:
        """Requests by id beside those with the same history, in turn; and events."""
        rows: dict[str, Any] = {}
        for size in (1, _BATCH):
            chosen = self._rng.integers(0, self._people, [_REQUESTS, size]).tolist()
            seconds: dict[str, list[float]] = {"user_id": [], "history": []}
            for people in chosen:
                ids = [str(person) for person in people]
                kept = self._store.read(ids)
                width = max(len(person.events) for person in kept)
                history = [_padded(person, width) for person in kept]
                inputs = {"user_id": ids, "history": history}
                # The first request would load what the other one needs.
                names = list(inputs) if self._rng.random() < 0.5 else list(inputs)[::-1]
                answers = [_timed(http, {n: inputs[n], "k": 20}, seconds[n]) for n in names]
                assert answers[0] == answers[1]
            quantiles = {n: np.quantile(s, [0.5, 0.99]) * 1000 for n, s in seconds.items()}
            for name, (median, high) in quantiles.items():
                rows[f"predict by {name}, {size} rows: p50, p99 ms"] = [
                    round(median, 2),
                    round(high, 2),
                ]
            ratio = quantiles["user_id"] / quantiles["history"]
            rows[f"by user_id over by history, {size} rows: p50, p99"] = ratio.round(2).tolist()
        started = time.perf_counter()
        numbers = itertools.count()
        for _ in range(100):
            events = [
                {
                    "user_id": str(self._rng.integers(self._people)),
                    "item_id": f"item-{next(numbers)}",
                    "time": 1000,
                }
                for _ in range(_EVENTS)
            ]
            answer = http.post(f"/v1/models/{_MODEL}/events", json={"events": events})
            assert answer.json()["new_events"] == _EVENTS, answer.text
        rows[f"events per second over REST, {_EVENTS} at a time"] = round(
            100 * _EVENTS / _since(started)
        )
        return rows

    def _of(self, person: int) -> Person:
        return Person(tuple(Event(1 + i, f"item-{x}") for i, x in enumerate(self._items[person])))


def _padded(person: Person, width: int) -> list[str]:
    items = [event.item_id for event in person.events]
    return items + [""] * (width - len(items))


def _timed(http: httpx.Client, inputs: dict[str, Any], seconds: list[float]) -> Any:
    started = time.perf_counter()
    answer = http.post(f"/v1/models/{_MODEL}:predict", json={"inputs": inputs})
    seconds.append(_since(started))
    assert answer.status_code == 200, answer.text
    return answer.json()


def _since(started: float) -> float:
    return time.perf_counter() - started


@contextlib.contextmanager
def _redis(program: str, work_dir: Path) -> Iterator[str]:
    """A server that syncs every write, as the file does."""
    path = work_dir / "socket"
    command = [program, "--port", "0", "--unixsocket", str(path), "--dir", str(work_dir)]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    is_there: Callable[[], bool] = path.exists
    try:
        wait_for(is_there)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
