"""Baselines without training: popularity, personal frequency, item-to-item neighbours."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse
import tensorflow as tf

from benchmarks import protocols
from components.baseline.item_knn import NUM_NEIGHBOURS, nearest_items
from model import ranking
from model.metrics import metrics_from_ranks

# Histories -> scores, float32 [U, N + 1].
Scorer = Callable[[Sequence[Sequence[int]]], np.ndarray]


def popularity(split: protocols.Split) -> Scorer:
    """Scores the items by their frequency in train, the same for every person."""
    counts = split.train_counts().astype(np.float32)
    return lambda histories: np.tile(counts, (len(histories), 1))


def personal_frequency(split: protocols.Split) -> Scorer:
    """Scores items by a person's own frequency, then recency, then by their frequency in train."""
    share = split.train_counts() / max(1, split.train_counts().max()) / 2  # [N + 1], below 1

    def scores(histories: Sequence[Sequence[int]]) -> np.ndarray:
        found = np.tile(share, (len(histories), 1))
        for row, history in zip(found, histories, strict=True):
            items, count = np.unique(history, return_counts=True)
            last = np.zeros(len(row))
            last[np.asarray(history, np.int64)] = np.arange(1, len(history) + 1)
            row[items] = count + last[items] / (1 + len(history))
        return found.astype(np.float32)

    return scores


def item_knn(split: protocols.Split, neighbours: int = NUM_NEIGHBOURS) -> Scorer:
    """Scores an item by the sum of its cosines with the items of the history.

    The similarities are those of the pipeline's own baseline; each item keeps its most
    similar ``neighbours``.
    """
    nearest = nearest_items(
        np.concatenate(split.train),
        np.cumsum([0, *map(len, split.train)]),
        split.num_items,
        neighbours,
    )
    rows = np.repeat(np.arange(len(nearest.items)), nearest.items.shape[1])
    similarity = scipy.sparse.csr_matrix(
        (nearest.similarities.ravel(), (rows, nearest.items.ravel())),
        shape=(split.num_items + 1, split.num_items + 1),
    )
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
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Computes metrics with keys like ``excluded.recall@50``, as for the model, and the ranks.

    Returns:
      The metrics; and, under ``excluded`` and ``included``, the ranks of every person's targets,
      int32 [U, M]; see `model.ranking.target_ranks`.
    """
    shown, targets = protocols.pad(people.histories), protocols.pad(people.targets, fill=-1)
    num_scores = scorer(people.histories[:1]).shape[1]
    block = int(ranking.users_per_block(num_scores, targets.shape[1]))
    result: dict[str, float] = {}
    ranks_of: dict[str, list[np.ndarray]] = {"excluded": [], "included": []}
    for start in range(0, len(shown), block):
        part = slice(start, start + block)
        scores = tf.constant(scorer(people.histories[part]))
        for name, ranks in ranks_of.items():
            ranks.append(
                ranking.ranks_from_scores(
                    scores, shown[part], targets[part], name == "excluded"
                ).numpy()
            )
    together = {name: np.concatenate(ranks) for name, ranks in ranks_of.items()}
    for name, ranks in together.items():
        metrics = metrics_from_ranks(ranks, cutoffs)
        result |= {f"{name}.{key}": value for key, value in metrics.items()}
    return result, together
