"""Measures the live catalogue: how soon a change is visible, the capacity, and the costs.

The benchmark serves a synthetic bundle in its own process and changes the catalogue over REST.
First it changes a share of the catalogue as fast as possible; about half of the changes are new
items, the others are removals. Before and after them, one client requests recommendations, and the
answers are compared with an exact search in NumPy over the current catalogue. Then the benchmark
changes one item at a time and measures the time until the first answer that shows the change.
Finally it kills the server in the middle of changes, starts it again, and looks up every item whose
change had been acknowledged.

Peers get the same vectors, changes and interests. Each runs in its own process without a server;
see ``peers/live_changes.py``.

  python -m benchmarks.live_index --items 1000000 --peers faiss_live hnswlib_live lancedb_live
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks import peers
from benchmarks.index import RECALL_K, run_step
from benchmarks.processes import served

_WRITERS = 4
_ITEMS_PER_REQUEST = 100
_REQUESTS = 400
_PEOPLE = 100
_CHANGES_SEEN = 100
_MODEL = "/v1/models/mind"
_PEERS = ("faiss_live", "hnswlib_live", "lancedb_live")
_PEER_DATA = "peers.npz"


def main() -> None:
    """Prints the figures, one per line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--churn", type=float, default=0.1, help="share of the items to change")
    parser.add_argument("--kind", choices=["scann", "exact"], default="scann")
    parser.add_argument("--peers", nargs="*", default=(), choices=_PEERS)
    parser.add_argument(
        "--peer_seconds", type=float, default=30, help="seconds for each measurement"
    )
    parser.add_argument("--peer_limit", type=int, default=1200, help="seconds for the whole peer")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        run_step("trained", folder, arguments.items, arguments.dimensions)
        run_step("build", folder, arguments.kind, 0.98, "live")
        run_step("requests", folder, _PEOPLE)
        base = work_dir / "base"
        base.mkdir()
        (base / "1").symlink_to(work_dir / arguments.kind, target_is_directory=True)
        found = {"ours": measure(base, work_dir, arguments.items, arguments.churn)}
        _print_rows("ours", found["ours"])
        for peer in arguments.peers:
            output = work_dir / f"{peer}.json"
            options = (output, arguments.peer_seconds, arguments.peer_limit)
            try:
                peers.run(peer, [str(work_dir / _PEER_DATA), *map(str, options)])
            except subprocess.CalledProcessError as error:
                print(f"\n{peer} did not finish: {error}")
            if output.exists():
                found[peer] = json.loads(output.read_text())
                _print_rows(peer, found[peer])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


def _print_rows(name: str, rows: dict[str, Any]) -> None:
    print(f"\n{name}")
    for key, value in rows.items():
        print(f"{key:<46} {value}", flush=True)


def measure(base: Path, work_dir: Path, num_items: int, churn: float) -> dict[str, Any]:
    """Measures the live catalogue, writes the peers' data, and returns the figures by name."""
    requests = json.loads((work_dir / "requests.json").read_text())
    flags = ("--live_catalogue", str(work_dir / "log"))
    rows: dict[str, Any] = {}
    with (
        served(base, work_dir / "server.log", *flags) as target,
        httpx.Client(base_url=target["rest"], timeout=120) as http,
    ):
        catalogue = Catalogue(http)
        rows["one request, as pushed: p50, p99 ms"] = before = quantiles(
            latencies(http, requests["histories"])
        )
        rows["recall@100, as pushed"] = recall(http, catalogue, requests["asked"])
        new = [f"new-{i}" for i in range(round(num_items * churn / 2))]
        removed = np.random.default_rng(1).choice(num_items, len(new), replace=False)
        gone = [f"item-{i}" for i in removed]
        # Items in histories stay, because a history that lost its items would have no interests.
        histories = {item for row in requests["asked"] + requests["histories"] for item in row}
        gone = [item for item in gone if item not in histories]
        seconds = change_all(target["rest"], new, gone, num_items)
        rows["items changed"] = len(new) + len(gone)
        rows["items changed per second"] = round(rows["items changed"] / seconds)
        pushed, pushed_ids = catalogue.vectors, catalogue.ids
        catalogue.add(new)
        peer_data(
            work_dir / _PEER_DATA,
            (pushed_ids, pushed),
            catalogue.vectors[len(pushed) :],
            gone,
            [people_of(http, requests[name]) for name in ("asked", "histories")],
        )
        catalogue.remove(gone)
        rows["one request, after them: p50, p99 ms"] = after = quantiles(
            latencies(http, requests["histories"])
        )
        rows["p99 after / before"] = round(after[1] / before[1], 2)
        rows["recall@100, after them"] = recall(http, catalogue, requests["asked"])
        rows["removal to answer: p50, p99, max ms"] = seen(http, requests["histories"])
        stop = threading.Event()
        load = threading.Thread(target=write_until, args=(target["rest"], stop, num_items))
        load.start()
        try:
            rows["the same while others write"] = seen(http, requests["histories"])
        finally:
            stop.set()
            load.join()
        rows["server MB"] = memory(target["pid"])
    rows |= killed(base, work_dir, flags, num_items)
    return rows


class People(NamedTuple):
    """People as the peers need them: interests float32 [P, K, d], and item ids [P][T]."""

    interests: np.ndarray
    histories: list[list[str]]


def people_of(http: httpx.Client, histories: list[list[str]]) -> People:
    """Returns the first ``_REQUESTS`` people, with their interests from the served user tower."""
    some = histories[:_REQUESTS]
    return People(
        np.array(post(http, "user_interests", {"history": some})["interests"], np.float32), some
    )


def peer_data(
    path: Path,
    pushed: tuple[np.ndarray, np.ndarray],
    new: np.ndarray,
    gone: list[str],
    people: list[People],
) -> None:
    """Writes the catalogue, its changes and the requests for the peers.

    Args:
      path: The file to write. Its arrays are ``vectors`` float32 [N, d], ``new`` float32 [M, d],
        ``gone`` int [G] (rows of ``vectors``) and ``items_per_change``. For the people with whom
        recall is measured they are ``asked`` float32 [P, K, d] and ``asked_owned`` int [P, T]
        (rows of ``vectors``), and for those whose requests are timed ``timed`` and
        ``timed_owned``.
      pushed: Ids [N] and vectors float32 [N, d] of the items before the changes.
      new: Vectors of the items that are added, float32 [M, d].
      gone: Ids of the items that are removed.
      people: The people with whom recall is measured, and those whose requests are timed.
    """
    ids, vectors = pushed
    row_of = {item: row for row, item in enumerate(ids.tolist())}

    def owned(some: People) -> np.ndarray:
        return np.array([[row_of[item] for item in history] for history in some.histories])

    asked, timed = people
    np.savez(
        path,
        vectors=vectors,
        new=new,
        gone=np.array([row_of[item] for item in gone]),
        items_per_change=_ITEMS_PER_REQUEST,
        asked=asked.interests,
        asked_owned=owned(asked),
        timed=timed.interests,
        timed_owned=owned(timed),
    )


class Catalogue:
    """The items that the server should recommend from, and their vectors.

    Args:
      http: Client of the server, which gives the items and their vectors.

    Attributes:
      ids: Item ids [N].
      vectors: float32 [N, d].
    """

    def __init__(self, http: httpx.Client):
        self._http = http
        answer = post(http, "list_items", {"offset": 0, "limit": 2**30})
        self.ids = np.array(answer["item_ids"])
        self.vectors = self._vectors(self.ids)

    def add(self, ids: list[str]) -> None:
        """Adds items, which the server must already have."""
        self.ids = np.concatenate([self.ids, ids])
        self.vectors = np.concatenate([self.vectors, self._vectors(np.array(ids))])

    def remove(self, ids: list[str]) -> None:
        """Removes items."""
        stays = ~np.isin(self.ids, ids)
        self.ids, self.vectors = self.ids[stays], self.vectors[stays]

    def _vectors(self, ids: np.ndarray) -> np.ndarray:
        parts = [
            np.array(
                post(self._http, "item_embeddings", {"items": ids[i : i + 1000].tolist()})[
                    "vectors"
                ],
                np.float32,
            )
            for i in range(0, len(ids), 1000)
        ]
        return np.concatenate(parts)


def post(http: httpx.Client, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Calls a signature over REST and returns its outputs by name."""
    body = {"signature_name": signature, "inputs": inputs}
    answer = http.post(f"{_MODEL}:predict", json=body)
    answer.raise_for_status()
    return answer.json()["outputs"]


def recommend(http: httpx.Client, history: list[str]) -> list[str]:
    """Returns the ids of the items recommended for a history, best first."""
    inputs = {"history": [history], "k": RECALL_K, "exclude": [[""]], "exclude_history": True}
    return post(http, "serving_default", inputs)["item_ids"][0]


def latencies(http: httpx.Client, histories: list[list[str]]) -> list[float]:
    """Returns the times of ``_REQUESTS`` single requests after a warm-up, in seconds."""
    times = []
    for number, history in enumerate(itertools.islice(itertools.cycle(histories), _REQUESTS + 50)):
        start = time.perf_counter()
        recommend(http, history)
        if number >= 50:
            times.append(time.perf_counter() - start)
    return times


def recall(http: httpx.Client, catalogue: Catalogue, people: list[list[str]]) -> float:
    """Returns recall@100: the mean share of a person's exact best items that the answer has."""
    shares = []
    for history in people:
        interests = post(http, "user_interests", {"history": [history]})["interests"][0]
        scores = (catalogue.vectors @ np.array(interests, np.float32).T).max(axis=1)
        scores[np.isin(catalogue.ids, history)] = -np.inf
        best = catalogue.ids[np.argpartition(-scores, RECALL_K)[:RECALL_K]]
        shares.append(len({*best} & {*recommend(http, history)}) / RECALL_K)
    return round(float(np.mean(shares)), 4)


def upsert_of(item: str, number: int, num_items: int) -> dict[str, Any]:
    """Returns the upsert of an item that is close to a pushed one, which ``number`` selects."""
    features = {"like": f"item-{number * 7919 % num_items}", "angle": 1.0 + number % 1000}
    return {"id": item, "features": features}


def change_all(url: str, new: list[str], gone: list[str], num_items: int) -> float:
    """Adds and removes items over several connections and returns how many seconds that took."""
    items = [upsert_of(item, number, num_items) for number, item in enumerate(new)]
    work: list[tuple[str, list[Any]]] = []
    for start in range(0, max(len(items), len(gone)), _ITEMS_PER_REQUEST):
        part = slice(start, start + _ITEMS_PER_REQUEST)
        work += [("upsert", items[part])] if items[part] else []
        work += [("remove", gone[part])] if gone[part] else []
    queue = iter(work)
    lock = threading.Lock()

    def write() -> None:
        with httpx.Client(base_url=url, timeout=120) as http:
            while True:
                with lock:
                    job = next(queue, None)
                if job is None:
                    return
                answer = http.post(f"{_MODEL}/items:{job[0]}", json={"items": job[1]})
                answer.raise_for_status()

    threads = [threading.Thread(target=write) for _ in range(_WRITERS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def seen(http: httpx.Client, histories: list[list[str]]) -> tuple[float, float, float]:
    """Measures the time from a change to the first answer that shows it.

    Each person's best item goes out of stock and comes back.

    Returns:
      Median, 99th percentile and maximum, in milliseconds.
    """
    times = []
    for number in range(_CHANGES_SEEN // 2):
        history = histories[number]
        item = recommend(http, history)[0]
        for in_stock in (False, True):
            start = time.perf_counter()
            change = {"items": [{"id": item, "in_stock": in_stock}]}
            http.post(f"{_MODEL}/items:upsert", json=change).raise_for_status()
            while (item in recommend(http, history)) != in_stock:
                pass
            times.append(time.perf_counter() - start)
    return (*quantiles(times), round(1e3 * max(times), 1))


def write_until(url: str, stop: threading.Event, num_items: int) -> None:
    """Upserts the same items again and again until ``stop`` is set."""
    with httpx.Client(base_url=url, timeout=120) as http:
        for number in itertools.count():
            if stop.is_set():
                return
            items = [
                upsert_of(f"again-{i}", number + i, num_items) for i in range(_ITEMS_PER_REQUEST)
            ]
            http.post(f"{_MODEL}/items:upsert", json={"items": items}).raise_for_status()


def killed(base: Path, work_dir: Path, flags: tuple[str, ...], num_items: int) -> dict[str, Any]:
    """Kills the server amid changes, starts it again and counts the acknowledged items it lost."""
    acknowledged: list[str] = []

    def write(url: str) -> None:
        with httpx.Client(base_url=url, timeout=120) as http:
            for number in itertools.count():
                item = f"kept-{number}"
                body = {"items": [upsert_of(item, number, num_items)]}
                try:
                    http.post(f"{_MODEL}/items:upsert", json=body).raise_for_status()
                except httpx.HTTPError:
                    return
                acknowledged.append(item)

    with served(base, work_dir / "killed.log", *flags) as target:
        writer = threading.Thread(target=write, args=(target["rest"],))
        writer.start()
        while len(acknowledged) < 100:
            time.sleep(0.01)
        os.kill(target["pid"], signal.SIGKILL)
        writer.join()
    start = time.perf_counter()
    with (
        served(base, work_dir / "again.log", *flags) as target,
        httpx.Client(base_url=target["rest"], timeout=120) as http,
    ):
        ready = time.perf_counter() - start
        known = post(http, "item_embeddings", {"items": acknowledged})["known"]
    return {
        "acknowledged before the server was killed": len(acknowledged),
        "of these lost": known.count(False),
        "start with all changes, s": round(ready, 1),
    }


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """Returns the median and the 99th percentile in milliseconds."""
    return (
        round(1e3 * float(np.percentile(seconds, 50)), 2),
        round(1e3 * float(np.percentile(seconds, 99)), 2),
    )


def memory(pid: int) -> int:
    """Returns the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise ValueError(f"/proc/{pid}/status has no VmRSS")


if __name__ == "__main__":
    main()
