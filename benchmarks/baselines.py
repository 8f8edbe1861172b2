"""Baselines without training: popularity and item-to-item cosine neighbours."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse
import tensorflow as tf

from benchmarks import protocols
from model import ranking

_NEIGHBOURS = 200
_BLOCK = 256

# Histories -> scores, float32 [U, N + 1].
Scorer = Callable[[Sequence[Sequence[int]]], np.ndarray]


def popularity(split: protocols.Split) -> Scorer:
    """Every person gets the most frequent items of train."""
    counts = split.train_counts().astype(np.float32)
    return lambda histories: np.tile(counts, (len(histories), 1))


def item_knn(split: protocols.Split, neighbours: int = _NEIGHBOURS) -> Scorer:
    """Sum of the cosines between an item and the items of the history.

    Cosine of the items' columns in the binary person-item matrix of train; each
    item keeps its most similar ``neighbours``.
    """
    matrix = _incidence(split.train, split.num_items)
    norms = np.sqrt(np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1))
    unit = matrix @ scipy.sparse.diags(1 / norms)
    similarity = (unit.T @ unit).tolil()
    similarity.setdiag(0)
    similarity = similarity.tocsr()
    for row in range(similarity.shape[0]):
        values = similarity.data[similarity.indptr[row] : similarity.indptr[row + 1]]
        if len(values) > neighbours:
            values[np.argpartition(-values, neighbours)[neighbours:]] = 0
    return lambda histories: np.asarray(
        (_incidence(histories, split.num_items) @ similarity).todense(), np.float32
    )


def _incidence(rows: Sequence[Sequence[int]], num_items: int) -> scipy.sparse.csr_matrix:
    """Binary [rows, N + 1]."""
    lengths = [len(row) for row in rows]
    columns = np.concatenate([np.asarray(row, np.int64) for row in rows])
    indices = (np.repeat(np.arange(len(rows)), lengths), columns)
    matrix = scipy.sparse.csr_matrix(
        (np.ones(len(columns), np.float32), indices), shape=(len(rows), num_items + 1)
    )
    matrix.data[:] = 1  # an item bought twice counts once
    return matrix


def evaluate(
    scorer: Scorer, people: protocols.People, cutoffs: tuple[int, ...]
) -> dict[str, float]:
    """Metrics with keys like ``excluded.recall@50``, as for the model."""
    shown, targets = protocols.pad(people.histories), protocols.pad(people.targets, fill=-1)
    result = {}
    for name, exclude in (("excluded", True), ("included", False)):
        ranks = []
        for start in range(0, len(shown), _BLOCK):
            part = slice(start, start + _BLOCK)
            scores = tf.constant(scorer(people.histories[part]))
            ranks.append(
                ranking.ranks_from_scores(scores, shown[part], targets[part], exclude).numpy()
            )
        metrics = ranking.metrics_from_ranks(np.concatenate(ranks), cutoffs)
        result |= {f"{name}.{key}": value for key, value in metrics.items()}
    return result
