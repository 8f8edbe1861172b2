"""Filters by selectivity: recall and speed beside FAISS, hnswlib and vector databases.

The catalogue is that of ``benchmarks.index``, with nine categories for each item: of four, the
value is drawn by chance (a 2nd, 10th, 100th and 1000th of the items have it); of four more it is
the neighbourhood that the item's cluster lies in, of the same four sizes; the ninth is the cluster.
A request allows

- ``random``: one value that has nothing to do with the vectors,
- ``near``: the neighbourhood of one of the person's own interests,
- ``far``: one value by chance, and forbids the clusters of all of the person's interests,

or forbids a 10th of the items by chance (``deny``). Every peer searches with each of a person's
K interests and merges by the maximum, as the served model does, and leaves out the history. It is
called in its own process without a server, and asked with more and more effort until its recall
reaches the target; what turns a request into the peer's filter object is not timed.

  python -m benchmarks.filters --json out.json
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.index import (
    RECALL_K,
    run_step,
    save_trained,
    synthetic_items,
    synthetic_tower,
)
from benchmarks.peers.filter_run import filter_mask
from contract import manifest

_PEERS = ("faiss_ivf", "faiss_hnsw", "hnswlib", "milvus", "lancedb")
# Values of the categories that are drawn by chance, and of neighbourhoods.
_PARTS = (2, 10, 100, 1000)
_NAMES = (*(f"random-{n}" for n in _PARTS), *(f"near-{n}" for n in _PARTS), "cluster")
_RANDOM, _NEAR, _CLUSTER = 0, len(_PARTS), 2 * len(_PARTS)
_WARMUP = 3
_RECALL = 0.98


def main() -> None:
    """Prints one line for each setting and peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--peers", nargs="*", default=_PEERS, choices=_PEERS)
    parser.add_argument("--peer_seconds", type=float, default=3.0, help="for each point of a sweep")
    parser.add_argument("--work_dir", type=Path, help="keep (or find) what was built here")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = arguments.work_dir or Path(temporary)
        work_dir.mkdir(parents=True, exist_ok=True)
        if not (work_dir / "settings.json").exists():
            run_step("trained", work_dir, arguments.items, arguments.dimensions, module="filters")
            built = run_step("build", work_dir, "scann", _RECALL)
            print("limits:", json.dumps(built["index"][manifest.FILTERS]), flush=True)
            run_step("requests", work_dir, arguments.people, module="filters")
        rows = run_step("ours", work_dir, module="filters")["rows"]
        _print_rows("ours", rows)
        found = {"ours": rows}
        for peer in arguments.peers:
            start = time.monotonic()
            output = work_dir / f"{peer}.json"
            peers.run(peer, [str(work_dir), str(output), str(arguments.peer_seconds)])
            found[peer] = json.loads(output.read_text())
            _print_rows(f"{peer} ({time.monotonic() - start:.0f} s)", found[peer])
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2))


def _print_rows(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{name}")
    print(
        f"{'filter':>12} {'share':>7} {'recall':>7} {'p50 ms':>8} {'p99 ms':>8} {'ratio':>6}  with"
    )
    unfiltered = rows[0]["p99_ms"]
    for row in rows:
        print(
            f"{row['filter']:>12} {row['share']:>7} {row['recall']:>7.3f} {row['p50_ms']:>8.2f} "
            f"{row['p99_ms']:>8.2f} {row['p99_ms'] / unfiltered:>6.1f}  {row.get('with', '')}",
            flush=True,
        )


def trained_step() -> None:
    """Writes model, examples, vectors and categories: work_dir, items, dimensions."""
    work_dir, items, dimensions = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    import numpy as np
    import tensorflow as tf

    import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

    generator = np.random.default_rng(0)
    catalogue = synthetic_items(items, dimensions, generator)
    chance = np.random.default_rng(1)
    drawn = [chance.integers(0, parts, items) for parts in _PARTS]
    near = [parts[catalogue.cluster] for parts in neighbourhoods(catalogue.centres)]
    columns = np.stack([*drawn, *near, catalogue.cluster], axis=1).astype(np.int32)
    sizes = [*_PARTS, *_PARTS, len(catalogue.centres)]
    tower = synthetic_tower(catalogue.vectors)
    tower.categories = tf.Variable(
        [f"{name}:{i}" for name, size in zip(_NAMES, sizes, strict=True) for i in range(size)],
        trainable=False,
    )
    first = np.concatenate([[1], 1 + np.cumsum(sizes)[:-1]]).astype(np.int32)
    tower.item_categories = tf.Variable(columns + first, trainable=False)
    save_trained(work_dir, tower, catalogue.cluster, generator)
    np.save(work_dir / "vectors.npy", catalogue.vectors)
    np.save(work_dir / "columns.npy", columns)
    print("{}")


def neighbourhoods(centres: Any) -> list[Any]:
    """Divides clusters into equal neighbourhoods, each of them again into the next smaller ones.

    Args:
      centres: float32 [C, d].

    Returns:
      int [C] for each of ``_PARTS``: the number of the cluster's neighbourhood.
    """
    import numpy as np

    generator = np.random.default_rng(2)
    groups, found, before = np.zeros(len(centres), int), [], 1
    for parts in _PARTS:
        finer = np.zeros(len(centres), int)
        for group in range(before):
            members = np.flatnonzero(groups == group)
            along = centres[members] @ generator.normal(size=centres.shape[1])
            pieces = np.array_split(members[np.argsort(along)], parts // before)
            for number, piece in enumerate(pieces):
                finer[piece] = group * (parts // before) + number
        groups, before = finer, parts
        found.append(finer)
    return found


def requests_step() -> None:
    """Writes people, what their requests ask, and the true best scores: work_dir, people."""
    work_dir, num_people = Path(sys.argv[1]), int(sys.argv[2])
    import numpy as np
    import tensorflow as tf

    import model  # noqa: F401
    from retrieval.people import read_people

    people = read_people([str(work_dir / "examples.gz")], "validation", num_people, ())
    tower = tf.saved_model.load(str(work_dir / "trained"))
    user = tower.user_interests(tf.constant(people.history), {})
    queries, owned = user["interests"].numpy(), user["history_index"].numpy() - 1
    vectors, columns = np.load(work_dir / "vectors.npy"), np.load(work_dir / "columns.npy")
    generator = np.random.default_rng(3)
    settings: list[dict[str, Any]] = [_setting("none", 1.0, [{}] * len(owned))]
    for level, parts in enumerate(_PARTS):
        values = generator.integers(0, parts, len(owned)).tolist()
        drawn = [{"column": _RANDOM + level, "value": value} for value in values]
        own = columns[owned[:, 0], _NEAR + level].tolist()
        clusters = [sorted({*map(int, columns[row, _CLUSTER])}) for row in owned]
        settings += [
            _setting("random", 1 / parts, drawn),
            _setting("near", 1 / parts, [{"column": _NEAR + level, "value": v} for v in own]),
            _setting(
                "far",
                1 / parts,
                [one | {"forbidden": c} for one, c in zip(drawn, clusters, strict=True)],
            ),
        ]
    denied = generator.integers(0, 10, len(owned)).tolist()
    settings.append(_setting("deny", 0.9, [{"column": 1, "denied": v} for v in denied]))
    best = np.full([len(settings), len(owned), RECALL_K], -np.inf, np.float32)
    for person, interests in enumerate(queries):
        scores = (vectors @ interests.T).max(axis=1)
        scores[owned[person]] = -np.inf
        for number, setting in enumerate(settings):
            left = scores[filter_mask(columns, setting["people"][person])]
            top = -np.sort(np.partition(-left, min(RECALL_K, left.size) - 1)[:RECALL_K])
            best[number, person, : top.size] = top
    np.savez(work_dir / "people.npz", queries=queries, owned=owned, best=best)
    np.save(work_dir / "history.npy", people.history.astype(str))
    (work_dir / "settings.json").write_text(json.dumps(settings))
    print("{}")


def _setting(name: str, share: float, people: list[dict[str, Any]]) -> dict[str, Any]:
    return {"filter": name, "share": round(share, 4), "people": people}


def ours_step() -> None:
    """Asks the served signature: work_dir."""
    work_dir = Path(sys.argv[1])
    import numpy as np
    import tensorflow as tf
    from scann.scann_ops.py import scann_ops  # noqa: F401

    import model  # noqa: F401

    serve = tf.saved_model.load(str(work_dir / "scann")).signatures["serving_default"]
    history, best = np.load(work_dir / "history.npy"), np.load(work_dir / "people.npz")["best"]
    settings = json.loads((work_dir / "settings.json").read_text())
    rows = []
    for setting, exact in zip(settings, best, strict=True):
        requests = [
            {
                "history": tf.constant(history[person : person + 1]),
                "k": tf.constant(RECALL_K),
                "exclude": tf.constant([[""]]),
                "exclude_history": tf.constant(True),
                "diversity": tf.constant(0.0),
                "allow_categories": tf.constant([_allowed(wish)]),
                "deny_categories": tf.constant([_denied(wish)]),
            }
            for person, wish in enumerate(setting["people"])
        ]
        rows.append({key: setting[key] for key in ("filter", "share")})
        rows[-1] |= _measured(serve, requests, exact)
    print(json.dumps({"rows": rows}))


def _measured(serve: Any, requests: list[dict[str, Any]], exact: Any) -> dict[str, float]:
    """Sends the requests; returns recall against the best scores [P, k], and times."""
    import numpy as np

    from retrieval.measure import latencies_ms, recall

    scores: dict[int, Any] = {}

    def ask(person: int) -> None:
        answer = serve(**requests[person])
        found = answer["scores"].numpy()
        scores[person] = np.where(answer["item_ids"].numpy() != b"", found, -np.inf)[0]

    times = latencies_ms(ask, len(requests), _WARMUP)
    return {
        "recall": recall(np.stack([scores[i] for i in range(len(requests))]), exact).mean,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
    }


def _allowed(wish: dict[str, Any]) -> list[str]:
    return [f"{_NAMES[wish['column']]}:{wish['value']}"] if "value" in wish else [""]


def _denied(wish: dict[str, Any]) -> list[str]:
    names = [f"{_NAMES[_CLUSTER]}:{cluster}" for cluster in wish.get("forbidden", [])]
    if "denied" in wish:
        names.append(f"{_NAMES[wish['column']]}:{wish['denied']}")
    return names or [""]


if __name__ == "__main__":
    main()
