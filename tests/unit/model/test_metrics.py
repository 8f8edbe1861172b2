"""Metrics from ranks against values computed by hand."""

import math

import numpy as np
import pytest

from contract.evaluation_outputs import UNKNOWN_RANK
from model import metrics


def _of_one(ranks, cutoffs):
    (row,) = metrics.per_person(np.array([ranks], np.int32), cutoffs)
    return dict(zip(metrics.quantity_names(cutoffs), row, strict=True))


def test_one_person_by_hand():
    # Targets at ranks 1, 4 and 11; the zeros are padding.
    found = _of_one([4, 0, 1, 11, 0], (3, 10))
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found == pytest.approx(
        {
            "recall_at_3": 1 / 3,
            "ndcg_at_3": 1 / ideal,
            "hit_rate_at_3": 1,
            "recall_at_10": 2 / 3,
            "ndcg_at_10": (1 + 1 / math.log2(5)) / ideal,
            "hit_rate_at_10": 1,
            "mrr": 1,
        }
    )


def test_ndcg_divides_by_what_the_cutoff_allows():
    # Five targets cannot fill more than one place of one.
    assert _of_one([1, 2, 3, 4, 5], (1,))["ndcg_at_1"] == pytest.approx(1.0)


def test_unknown_targets_are_misses_at_any_cutoff():
    found = _of_one([UNKNOWN_RANK, 2], (10,))
    assert found["recall_at_10"] == pytest.approx(0.5)
    assert found["mrr"] == pytest.approx(0.5)  # the best rank is 2


def test_a_person_without_targets_does_not_count():
    assert metrics.per_person(np.array([[0, 0], [1, 0]]), (10,)).shape == (1, 4)
    assert metrics.per_person(np.zeros((2, 0), np.int32), (10,)).shape == (0, 4)


def test_means_by_hand():
    # Person 1: two targets at ranks 1 and 4. Person 2: one target, rank 3 (and a
    # padded one). Person 3 has no target. Person 4 has a miss.
    ranks = np.array([[1, 4], [3, 0], [0, 0], [101, 0]])
    result = metrics.metrics_from_ranks(ranks, (1, 3))
    assert result["users"] == 3
    assert result["recall@1"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert result["recall@3"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert result["hit_rate@3"] == pytest.approx(2 / 3)
    ideal_of_two = 1 + 1 / np.log2(3)
    assert result["ndcg@1"] == pytest.approx(1 / 3)
    assert result["ndcg@3"] == pytest.approx((1 / ideal_of_two + 0.5 + 0) / 3)


def test_means_need_a_target():
    with pytest.raises(ValueError, match="No person has a target"):
        metrics.metrics_from_ranks(np.zeros((2, 3), np.int32), (1,))
