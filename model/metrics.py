"""Recall, NDCG, hit rate and reciprocal rank from the ranks of held-out items.

This is the only definition of these metrics; training, the Evaluator and the benchmarks
all use it. It needs only NumPy.
"""

from collections.abc import Sequence

import numpy as np

from contract.metric_names import CUTOFF_QUANTITIES, HIT_RATE, MRR, NDCG, RECALL, metric_name


def quantity_names(cutoffs: Sequence[int]) -> list[str]:
    """Names of the columns of `per_person`: each quantity at each cut-off, then ``mrr``."""
    names = [metric_name(quantity, k) for k in cutoffs for quantity in CUTOFF_QUANTITIES]
    return [*names, metric_name(MRR)]


def per_person(ranks: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """Metrics of each person who has a held-out item.

    Recall is the share of a person's targets found. NDCG divides by the ideal DCG over
    ``min(k, targets)`` hits. The hit rate is 1 if any target is found. The reciprocal
    rank is that of the best target.

    Example:
      One person has two targets, which are ranked first and fourth:

      >>> dict(zip(quantity_names([3]), per_person(np.array([[1, 4]]), [3])[0].round(3)))
      {'recall_at_3': 0.5, 'ndcg_at_3': 0.613, 'hit_rate_at_3': 1.0, 'mrr': 1.0}

    Args:
      ranks: int [B, M], 1-based ranks of the targets; 0 means "no target". See
        ``model.ranking.target_ranks``.
      cutoffs: Values of k.

    Returns:
      float64 [B', len(quantity_names(cutoffs))], with the columns in that order. B'
      is the number of people who have a target.
    """
    is_target = ranks > 0
    num_targets = is_target.sum(axis=1)  # [B]
    has_target = num_targets > 0
    ranks, is_target = ranks[has_target], is_target[has_target]  # [B', M]
    num_targets = num_targets[has_target]  # [B']
    # float64 represents every rank exactly, even that of an unknown target, the largest int32.
    gains = 1.0 / np.log2(np.where(is_target, ranks, 1).astype(np.float64) + 1.0)
    columns: list[np.ndarray] = []
    for k in cutoffs:
        found = is_target & (ranks <= k)
        hits = found.sum(axis=1)
        ideal = np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))
        values = {
            RECALL: hits / num_targets,
            NDCG: np.where(found, gains, 0.0).sum(axis=1) / ideal[np.minimum(k, num_targets) - 1],
            HIT_RATE: (hits > 0).astype(np.float64),
        }
        columns += [values[quantity] for quantity in CUTOFF_QUANTITIES]
    # The best-ranked target has the largest reciprocal rank.
    reciprocal = np.where(is_target, 1.0 / np.maximum(ranks, 1), 0.0).max(axis=1, initial=0.0)
    return np.stack([*columns, reciprocal], axis=1)


def metrics_from_ranks(ranks: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
    """Averages `per_person` over people, without the reciprocal rank.

    Args:
      ranks: int [B, M] from ``model.ranking.target_ranks``.
      cutoffs: Values of k.

    Returns:
      ``recall@k``, ``hit_rate@k`` and ``ndcg@k`` for each k, and ``users``, the
      number of people with a target.

    Raises:
      ValueError: if nobody has a target.
    """
    values = per_person(ranks, cutoffs)
    if not len(values):
        raise ValueError("No person has a target, so that the metrics are not defined.")
    means = {
        name: float(np.mean(column))
        for name, column in zip(quantity_names(cutoffs), values.T, strict=True)
    }
    found = {
        f"{quantity}@{k}": means[metric_name(quantity, k)]
        for k in cutoffs
        for quantity in CUTOFF_QUANTITIES
    }
    return {**found, "users": float(len(values))}
