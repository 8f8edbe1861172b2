"""FAISS IVF-PQ with exact refinement, for the vectors and interests of ``benchmarks/index.py``.

The script runs in its own environment (see ``benchmarks/peers/__init__.py``), so it imports
nothing from this project:

  faiss_ivf_pq.py build FOLDER NUM_LISTS
  faiss_ivf_pq.py serve FOLDER RECALL_TARGET

FOLDER has ``vectors.npy`` (float32 [N, d]) and ``queries.npz`` (``interests`` [P, K, d],
``owned`` int [P, T] with -1 as padding, ``exact`` [P, k], the best rows). ``build`` writes the
index to FOLDER. ``serve`` tries one nprobe after another until one reaches the target, and prints
the figures of each as JSON.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import faiss
import numpy as np

# Each 4-bit code stands for two dimensions and is scored with SIMD shuffles, as in ScaNN.
_DIMENSIONS_PER_CODE = 2
_SAMPLE_PER_LIST = 40
_BLOCK = 1 << 18
_NPROBE = (8, 16, 32, 64, 128, 256, 512)
_K_FACTOR = 4.0  # candidates refined for each item wanted
_BATCH = 32
_REQUESTS = 200
_INDEX = "ivf_pq.faiss"


def build(folder: Path, num_lists: int) -> dict[str, float]:
    """Trains the index on a sample, adds the vectors in blocks, and writes the index.

    Returns:
      The seconds that it takes and the peak memory in MiB.
    """
    start = time.monotonic()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    num_items, dimensions = vectors.shape
    codes = dimensions // _DIMENSIONS_PER_CODE
    index = faiss.index_factory(
        dimensions, f"IVF{num_lists},PQ{codes}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT
    )
    size = min(num_items, max(100_000, num_lists * _SAMPLE_PER_LIST))
    sample = np.sort(np.random.default_rng(0).choice(num_items, size, replace=False))
    index.train(vectors[sample])
    for block in _blocks(folder / "vectors.npy", num_items, dimensions):
        index.add(block)
    faiss.write_index(index, str(folder / _INDEX))
    return {"build_s": round(time.monotonic() - start, 1), "build_peak_mb": _peak_mb()}


def _blocks(path: Path, num_items: int, dimensions: int):
    """Yields parts of the array, which are read because mapped pages would count as memory."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        for start in range(0, num_items, _BLOCK):
            rows = min(_BLOCK, num_items - start)
            yield np.fromfile(file, np.float32, rows * dimensions).reshape(rows, dimensions)


def serve(folder: Path, recall_target: float) -> list[dict[str, float]]:
    """Measures on one core, one nprobe after another, until one reaches the recall.

    Returns:
      The figures of each nprobe.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    faiss.omp_set_num_threads(1)
    start = time.monotonic()
    index = faiss.read_index(str(folder / _INDEX))
    loaded = round(time.monotonic() - start, 1)
    asked = np.load(folder / "queries.npz")
    interests, owned, exact = asked["interests"], asked["owned"], asked["exact"]
    index.k_factor = _K_FACTOR
    rows = []
    for nprobe in _NPROBE:
        faiss.downcast_index(index.base_index).nprobe = nprobe
        found: list[list[int]] = []
        for i in range(0, len(interests), _BATCH):
            people = slice(i, i + _BATCH)
            found += _recommend(index, interests[people], owned[people], exact.shape[1])
        shares = [len(set(a) & set(b.tolist())) / len(b) for a, b in zip(found, exact, strict=True)]
        single = _times(index, interests, owned, exact.shape[1], 1, _REQUESTS)
        batch = _times(index, interests, owned, exact.shape[1], _BATCH, 10)
        row = {
            "nprobe": nprobe,
            "recall": round(float(np.mean(shares)), 4),
            "p50_ms": round(float(np.percentile(single, 50)), 3),
            "p99_ms": round(float(np.percentile(single, 99)), 3),
            "people_per_s": round(_BATCH * 1e3 / float(np.median(batch))),
            "load_s": loaded,
            "serve_rss_mb": _peak_mb(),
            "disk_mb": round((folder / _INDEX).stat().st_size / 1e6),
        }
        rows.append(row)
        if row["recall"] >= recall_target:
            break
    return rows


def _recommend(index, interests: np.ndarray, owned: np.ndarray, k: int) -> list[list[int]]:
    """Returns the rows of the ``k`` best items of each person, without those of the history.

    An item's score is the maximum over the interests that find it.
    """
    people, dimensions = len(interests), interests.shape[2]
    depth = k + owned.shape[1]
    scores, rows = index.search(interests.reshape(-1, dimensions), depth)
    scores, rows = scores.reshape(people, -1), rows.reshape(people, -1)
    answers = []
    for person in range(people):
        order = np.argsort(-scores[person], kind="stable")
        items = rows[person][order]
        _, first = np.unique(items, return_index=True)
        items = items[np.sort(first)]
        is_wanted = (items >= 0) & ~np.isin(items, owned[person])
        answers.append(items[is_wanted][:k].tolist())
    return answers


def _times(index, interests, owned, k: int, batch: int, count: int) -> np.ndarray:
    times = []
    for i in range(count + 3):
        rows = np.arange(i * batch, (i + 1) * batch) % len(interests)
        start = time.perf_counter()
        _recommend(index, interests[rows], owned[rows], k)
        times.append((time.perf_counter() - start) * 1e3)
    return np.array(times[3:])


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    if sys.argv[1] == "build":
        print(json.dumps(build(directory, int(sys.argv[3]))))
    else:
        print(json.dumps(serve(directory, float(sys.argv[3]))))
