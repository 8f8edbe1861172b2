"""What the peers of ``benchmarks/filters.py`` share: data, merging, timing, recall.

The module imports only NumPy, because it runs in the environments of the peers. The project itself
uses ``filter_mask``.
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
CLUSTER = -1  # the column of the clusters


def filter_mask(columns, wish):
    """Returns which items a request allows, bool [N].

    Args:
      columns: int32 [N, F], the values of the items.
      wish: ``column`` with the ``value`` that it must have or the ``denied`` value that it must
        not have, and the ``forbidden`` clusters. An empty wish allows everything.
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
      brackets: The opening and the closing bracket of a list.
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

    The command line has the directory of the data, the output file, and the seconds for each
    setting and parameter. For each setting the program writes the figures of the first parameter
    that reaches the recall ``TARGET``, or of the one with the largest recall if none does.

    Args:
      build: Function of vectors float32 [N, d] and columns int32 [N, F] that builds the index and
        returns two functions: ``prepare(wish)`` returns the peer's filter, and
        ``search(queries, filter, depth, parameter)`` returns the rows of the items that it finds
        for queries float32 [K, d], int [K, depth], padded with -1.
      parameters: The parameters to try, in ascending order of effort.
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
    """Returns the scores of the ``K`` best distinct items without the owned ones, best first.

    Args:
      vectors: float32 [N, d], the items.
      queries: float32 [interests, d].
      found: int [interests, depth], rows of the items found for each query; -1 is padding.
      owned: int [T], rows of the items in the history.
    """
    rows = np.setdiff1d(found[found >= 0], owned)
    scores = (vectors[rows] @ queries.T).max(axis=1) if rows.size else np.zeros(0)
    return -np.sort(-scores)[:K]


def recall(scores, best):
    """Returns the share of the best possible items that were found, by their scores.

    Args:
      scores: Scores of the items that were found.
      best: The best possible scores, best first, padded with -inf.
    """
    possible = best[np.isfinite(best)]
    if not possible.size:
        return 1.0
    return min(float((scores >= possible[-1] - _TOLERANCE).sum() / possible.size), 1.0)
