"""What the peers of ``benchmarks/filters.py`` do alike: data, merging, timing, recall.

Imports NumPy only: it runs in the peers' environments, and in this project's for ``filter_mask``.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

K = 100
TARGET = 0.98
_TOLERANCE = 1e-5
_WARMUP = 2
CLUSTER = -1  # column


def filter_mask(columns, wish):
    """Returns bool [N], the items that a request allows.

    Args:
      columns: int32 [N, F], the values of the items.
      wish: ``column`` and the ``value`` or the ``denied`` value of it, and ``forbidden`` clusters;
        empty allows everything.
    """
    mask = np.ones(len(columns), bool)
    if "value" in wish:
        mask &= columns[:, wish["column"]] == wish["value"]
    if "denied" in wish:
        mask &= columns[:, wish["column"]] != wish["denied"]
    if "forbidden" in wish:
        mask &= ~np.isin(columns[:, CLUSTER], wish["forbidden"])
    return mask


def sql(wish, brackets="()"):
    """Returns the request as a condition on the columns c0, c1 and so on.

    Args:
      wish: See ``filter_mask``.
      brackets: Those around a list.
    """
    parts = []
    if "value" in wish:
        parts.append(f"c{wish['column']} == {wish['value']}")
    if "denied" in wish:
        parts.append(f"c{wish['column']} != {wish['denied']}")
    if "forbidden" in wish:
        listed = ", ".join(map(str, wish["forbidden"]))
        parts.append(f"c8 not in {brackets[0]}{listed}{brackets[1]}")
    return " and ".join(parts)


def main(build, parameters):
    """Runs a peer on the data of ``benchmarks/filters.py``.

    Arguments of the program: directory of the data, output file, seconds for each setting and
    parameter.

    Args:
      build: Called with vectors float32 [N, d] and columns int32 [N, F]; returns
        ``prepare(wish)``, the peer's filter, and ``search(queries, filter, depth, parameter)``
        for float32 [K, d], which returns rows of items, int [K, depth], -1 for none.
      parameters: What is tried, in ascending order of effort.
    """
    work_dir, output, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    vectors, columns = np.load(work_dir / "vectors.npy"), np.load(work_dir / "columns.npy")
    people = dict(np.load(work_dir / "people.npz"))
    settings = json.loads((work_dir / "settings.json").read_text())
    prepare, search = build(vectors, columns)
    rows = []
    for setting, best in zip(settings, people["best"], strict=True):
        tried = []
        for parameter in parameters:
            times, recalls, begin = [], [], time.monotonic()
            for number, wish in enumerate(setting["people"]):
                filter_ = prepare(wish)
                queries, owned = people["queries"][number], people["owned"][number]
                for _ in range(1 if number or times else 1 + _WARMUP):
                    start = time.perf_counter()
                    found = search(queries, filter_, K + len(owned), parameter)
                    scores = merge(vectors, queries, found, owned)
                    elapsed = time.perf_counter() - start
                times.append(elapsed)
                recalls.append(recall(scores, best[number]))
                if time.monotonic() - begin > seconds:
                    break
            tried.append(
                {
                    "filter": setting["filter"],
                    "share": setting["share"],
                    "recall": float(np.mean(recalls)),
                    "p50_ms": 1e3 * float(np.percentile(times, 50)),
                    "p99_ms": 1e3 * float(np.percentile(times, 99)),
                    "with": f"{parameter}, {len(times)} people",
                }
            )
            if tried[-1]["recall"] >= TARGET:
                break
        enough = [row for row in tried if row["recall"] >= TARGET]
        rows.append(enough[0] if enough else max(tried, key=lambda row: row["recall"]))
        print(rows[-1], file=sys.stderr, flush=True)
        output.write_text(json.dumps(rows))


def merge(vectors, queries, found, owned):
    """Returns the best scores, distinct items without the owned ones, best first; [K] at most."""
    rows = np.setdiff1d(found[found >= 0], owned)
    scores = (vectors[rows] @ queries.T).max(axis=1) if rows.size else np.zeros(0)
    return -np.sort(-scores)[:K]


def recall(scores, best):
    """Returns the share of the best possible scores that was reached."""
    possible = best[np.isfinite(best)]
    if not possible.size:
        return 1.0
    return min(float((scores >= possible[-1] - _TOLERANCE).sum() / possible.size), 1.0)
