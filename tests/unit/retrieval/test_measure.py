"""Recall by score, and its confidence bound."""

import numpy as np
import pytest

from retrieval.measure import latencies_ms, recall

_NONE = -np.inf


def test_recall_is_the_share_of_scores_that_reach_the_kth_best():
    exact = np.array([[9, 8, 7, 6], [5, 4, 3, 2]], float)
    found = np.array([[9, 8, 6, 5], [5, 3, 2, _NONE]], float)  # 3 of 4 each
    result = recall(found, exact)
    assert result.mean == 0.75
    assert result.lower == 0.75
    assert result.people == 2


def test_the_bound_shrinks_with_people():
    exact = np.tile([[2.0, 1.0]], (4, 1))
    found = np.array([[2, 1], [2, 1], [2, 0], [2, 0]], float)  # 1, 1, 0.5, 0.5
    few = recall(found, exact)
    assert few.mean == 0.75
    assert few.lower == pytest.approx(0.75 - 1.645 * 0.25 / 2)
    many = recall(np.tile(found, (25, 1)), np.tile(exact, (25, 1)))
    assert many.lower == pytest.approx(0.75 - 1.645 * 0.25 / 10)


def test_any_of_several_equal_items_counts():
    exact = np.array([[3.0, 1.0, 1.0]])
    assert recall(np.array([[3.0, 1.0 - 1e-7, 1.0]]), exact).mean == 1.0


def test_people_with_fewer_items_or_none():
    exact = np.array([[2.0, 1.0, _NONE], [_NONE] * 3])
    found = np.array([[2.0, _NONE, _NONE], [5.0, 4.0, 3.0]])
    result = recall(found, exact)
    assert result.mean == 0.5
    assert result.people == 1


def test_recall_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing for any of 2 people"):
        recall(np.full([2, 3], _NONE), np.full([2, 3], _NONE))


def test_latencies_measure_each_call_once_after_the_warm_up():
    calls = []
    times = latencies_ms(calls.append, 4, warmup=2)
    assert calls == [0, 1, 0, 1, 2, 3]
    assert times.shape == (4,)
    assert (times >= 0).all()
