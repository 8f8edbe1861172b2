"""An index whose items change, for ``benchmarks/live_index.py``: FAISS, hnswlib or LanceDB.

The script runs in the peer's environment, in one process without a server:

  live_changes.py faiss|hnswlib|lancedb DATA OUTPUT SECONDS LIMIT

DATA is the file that ``live_index.peer_data`` writes. OUTPUT gets the figures as JSON. No
measurement of requests continues after SECONDS, and the process ends after LIMIT seconds. The index
is searched with more and more effort until its recall reaches the target. With that effort it is
measured before and after the changes, which are made in batches of the same size as in the requests
to our server. A request searches with each of a person's interests and merges the results by the
maximum score, as in ``filter_run.py``.

- FAISS: an IVF index whose direct map is a hash table, so that a removal need not look at every
  list. FAISS cannot remove items from an HNSW index.
- hnswlib: removed items are marked with ``mark_deleted``. The index has room for all new items
  beside the removed ones.
- LanceDB: rows are added and deleted, and a scalar index finds the ids. The vector index has the
  new rows only after ``optimize``, which is called after the changes and timed separately.
"""

import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
from filter_run import TARGET, K, merge, recall

_WARMUP = 20
_CHANGES_SEEN = 50


class Faiss:
    """FAISS with inverted lists of uncompressed vectors."""

    def __init__(self, vectors, capacity):
        """Builds the index of ``vectors``, float32 [N, d], whose ids are their rows."""
        import faiss
        import faiss_filter

        self.efforts = faiss_filter.EFFORTS["ivf"]
        self._params, self._selector = faiss.SearchParametersIVF, faiss.IDSelectorArray
        self._index = faiss_filter.trained_ivf(vectors)
        self._index.add(vectors)
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)

    def add(self, ids, vectors):
        """Adds items with ids int64 [n] and vectors float32 [n, d]."""
        self._index.add_with_ids(vectors, ids)

    def remove(self, ids):
        """Removes the items with ids int64 [n]."""
        # A direct map that is a hash table takes no other kind of selector.
        self._index.remove_ids(self._selector(ids))

    def search(self, queries, depth, effort):
        """Returns the ids found for ``queries`` float32 [K, d], int [K, depth], padded with -1."""
        return self._index.search(queries, depth, params=self._params(nprobe=effort))[1]


class Hnswlib:
    """hnswlib, whose graph keeps the removed items and marks them."""

    def __init__(self, vectors, capacity):
        """See ``Faiss``; there is room for ``capacity`` items."""
        import hnswlib_filter

        self.efforts = hnswlib_filter.EFFORTS
        self._index = hnswlib_filter.new_index(vectors, capacity)

    def add(self, ids, vectors):
        """See ``Faiss``."""
        self._index.add_items(vectors, ids)

    def remove(self, ids):
        """See ``Faiss``."""
        for item in ids.tolist():
            self._index.mark_deleted(item)

    def search(self, queries, depth, effort):
        """See ``Faiss``."""
        self._index.set_ef(max(effort, depth))
        return self._index.knn_query(queries, depth)[0].astype(np.int64)


class LanceDB:
    """LanceDB: a table on disk with a vector index and an index of the ids."""

    def __init__(self, vectors, capacity):
        """See ``Faiss``."""
        import lancedb_filter

        self.efforts = lancedb_filter.EFFORTS
        self._peer = lancedb_filter
        self._table = lancedb_filter.new_table(
            lancedb_filter.rows_of(np.arange(len(vectors)), vectors)
        )
        self._table.create_scalar_index("id", index_type="BTREE")

    def add(self, ids, vectors):
        """See ``Faiss``."""
        self._table.add(self._peer.rows_of(ids, vectors))

    def remove(self, ids):
        """See ``Faiss``."""
        self._table.delete(f"id in ({', '.join(map(str, ids.tolist()))})")

    def optimize(self):
        """Adds the new rows to the indices."""
        self._table.optimize()

    def search(self, queries, depth, effort):
        """See ``Faiss``."""
        return self._peer.nearest(self._table, queries, depth, effort)


_KINDS = {"faiss": Faiss, "hnswlib": Hnswlib, "lancedb": LanceDB}


class People:
    """The people whose requests are measured, and what the index should find for them.

    Args:
      data: The arrays of ``live_index.peer_data``.
      seconds: Limit of each measurement.
    """

    def __init__(self, data, seconds):
        self._asked, self._asked_owned = data["asked"], data["asked_owned"]
        self._timed, self._timed_owned = data["timed"], data["timed_owned"]
        self._vectors = np.concatenate([data["vectors"], data["new"]])
        self._is_there = np.arange(len(self._vectors)) < len(data["vectors"])
        self._seconds = seconds
        self._best = []
        self._find_best()

    def change(self, new, gone):
        """From now on expects the rows ``new``, and no longer the rows ``gone``."""
        self._is_there[new], self._is_there[gone] = True, False
        self._find_best()

    def _find_best(self):
        self._best = []
        for queries, owned in zip(self._asked, self._asked_owned, strict=True):
            scores = (self._vectors @ queries.T).max(axis=1)
            scores[~self._is_there] = scores[owned] = -np.inf
            self._best.append(-np.sort(np.partition(-scores, K - 1)[:K]))

    def recall(self, index, effort):
        """Returns the mean recall, and the number of removed items in the answers."""
        shares, num_gone, begin = [], 0, time.monotonic()
        for queries, owned, best in zip(self._asked, self._asked_owned, self._best, strict=True):
            found = index.search(queries, K + len(owned), effort)
            is_gone = (found >= 0) & ~self._is_there[found]
            num_gone += int(is_gone.sum())
            found[is_gone] = -1
            shares.append(recall(merge(self._vectors, queries, found, owned), best))
            if time.monotonic() - begin > self._seconds:
                break
        return float(np.mean(shares)), num_gone

    def quantiles_ms(self, index, effort):
        """Returns median and p99 of single requests, in ms, and the number of requests."""
        times, begin = [], time.monotonic()
        for number, (queries, owned) in enumerate(zip(self._timed, self._timed_owned, strict=True)):
            start = time.perf_counter()
            self._answer(index, queries, owned, effort)
            if number >= _WARMUP:
                times.append(time.perf_counter() - start)
            if times and time.monotonic() - begin > self._seconds:
                break
        return [*_quantiles(times), len(times)]

    def seen_ms(self, index, effort):
        """Returns median, p99 and maximum of the time until an answer shows a change, in ms.

        Each person's best item is removed and added again.
        """
        times, begin = [], time.monotonic()
        for queries, owned in zip(self._timed[:_CHANGES_SEEN], self._timed_owned, strict=False):
            item = self._answer(index, queries, owned, effort)[:1]
            for is_there in (False, True):
                start = time.perf_counter()
                if is_there:
                    index.add(item, self._vectors[item])
                else:
                    index.remove(item)
                while (item[0] in self._answer(index, queries, owned, effort)) != is_there:
                    pass
                times.append(time.perf_counter() - start)
            if time.monotonic() - begin > self._seconds:
                break
        return [*_quantiles(times), round(1e3 * max(times), 2)]

    def _answer(self, index, queries, owned, effort):
        """Returns the ids of the ``K`` best items without the owned ones, best first, int64 [k]."""
        found = index.search(queries, K + len(owned), effort)
        rows = np.setdiff1d(found[found >= 0], owned)
        scores = (self._vectors[rows] @ queries.T).max(axis=1)
        return rows[np.argsort(-scores)[:K]]


def main():
    """Builds, tunes, changes and measures the index; see the docstring of the module."""
    kind, output, seconds = _KINDS[sys.argv[1]], Path(sys.argv[3]), float(sys.argv[4])
    # Nothing handles the signal, so it ends the process even in the middle of a library's call.
    signal.alarm(int(sys.argv[5]))
    data = dict(np.load(sys.argv[2]))
    vectors, new, gone = data["vectors"], data["new"], data["gone"]
    people = People(data, seconds)
    added = np.arange(len(vectors), len(vectors) + len(new))
    start = time.perf_counter()
    index = kind(vectors, len(vectors) + len(new))
    rows = {"build, s": round(time.perf_counter() - start, 1)}
    for effort in index.efforts:
        found, _ = people.recall(index, effort)
        if found >= TARGET:
            break
    rows["effort"] = effort
    rows["one request, before: p50, p99 ms, requests"] = people.quantiles_ms(index, effort)
    rows["recall@100, before"] = round(found, 4)
    _report(rows, output)
    start = time.perf_counter()
    size = int(data["items_per_change"])
    for first in range(0, max(len(new), len(gone)), size):
        part = slice(first, first + size)
        if len(new[part]):
            index.add(added[part], new[part])
        if len(gone[part]):
            index.remove(gone[part])
    seconds = time.perf_counter() - start
    rows["items changed per second"] = round((len(new) + len(gone)) / seconds)
    people.change(added, gone)
    _ask(rows, "after", people, index, effort)
    _report(rows, output)
    if hasattr(index, "optimize"):
        start = time.perf_counter()
        index.optimize()
        rows["optimize, s"] = round(time.perf_counter() - start, 1)
        _ask(rows, "optimized", people, index, effort)
    rows["change to answer: p50, p99, max ms"] = people.seen_ms(index, effort)
    _report(rows, output)


def _ask(rows, when, people, index, effort):
    rows[f"one request, {when}: p50, p99 ms, requests"] = people.quantiles_ms(index, effort)
    found, num_gone = people.recall(index, effort)
    rows[f"recall@100, {when}"] = round(found, 4)
    rows[f"removed items in answers, {when}"] = num_gone


def _report(rows, output):
    output.write_text(json.dumps(rows))


def _quantiles(seconds):
    return [round(1e3 * float(np.percentile(seconds, part)), 2) for part in (50, 99)]


if __name__ == "__main__":
    main()
