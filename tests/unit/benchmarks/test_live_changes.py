"""What the peers of the live catalogue are measured by, with an index in NumPy as the peer."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import live_index, peers

_ITEMS, _NEW, _DIM = 400, 40, 8


class _Exact:
    """Scores every item that is there."""

    efforts = (1, 2)

    def __init__(self, vectors, capacity):
        self._vectors = np.zeros([capacity, vectors.shape[1]], np.float32)
        self._vectors[: len(vectors)] = vectors
        self._is_there = np.arange(capacity) < len(vectors)

    def add(self, ids, vectors):
        self._vectors[ids], self._is_there[ids] = vectors, True

    def remove(self, ids):
        self._is_there[ids] = False

    def search(self, queries, depth, effort):
        scores = np.where(self._is_there, queries @ self._vectors.T, -np.inf)
        if effort < self.efforts[-1]:
            scores[:, ::2] = -np.inf
        found = np.argsort(-scores, axis=1)[:, :depth]
        return np.where(np.take_along_axis(scores, found, 1) > -np.inf, found, -1)


class _Deaf(_Exact):
    """Takes only the changes of single items."""

    def add(self, ids, vectors):
        if len(ids) == 1:
            super().add(ids, vectors)

    def remove(self, ids):
        if len(ids) == 1:
            super().remove(ids)


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(peers.__file__).parent))
    live_changes = importlib.import_module("live_changes")
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=[_ITEMS + _NEW, _DIM]).astype(np.float32)
    ids = np.array([f"i{n}" for n in range(_ITEMS)])
    people = live_index.People(
        generator.normal(size=[30, 3, _DIM]).astype(np.float32), [["i1", "i5", "i6"]] * 30
    )
    gone = [f"i{n}" for n in range(10, 110)]
    data, output = tmp_path / "peers.npz", tmp_path / "figures.json"
    live_index.peer_data(data, (ids, vectors[:_ITEMS]), vectors[_ITEMS:], gone, [people, people])

    def run_peer(peer):
        monkeypatch.setitem(live_changes._KINDS, "numpy", peer)
        monkeypatch.setattr(live_changes.signal, "alarm", lambda seconds: None)
        monkeypatch.setattr(sys, "argv", ["", "numpy", str(data), str(output), "60", "60"])
        live_changes.main()
        return json.loads(output.read_text())

    return run_peer


def test_an_exact_peer_finds_everything_with_the_least_effort_that_does(run):
    rows = run(_Exact)
    assert rows["effort"] == 2
    assert rows["recall@100, before"] == rows["recall@100, after"] == 1.0
    assert rows["removed items in answers, after"] == 0


def test_a_peer_that_misses_the_changes_is_seen_through(run):
    rows = run(_Deaf)
    assert rows["recall@100, before"] == 1.0
    assert rows["recall@100, after"] < 0.98
    assert rows["removed items in answers, after"] > 0
