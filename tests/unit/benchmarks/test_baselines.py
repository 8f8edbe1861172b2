import numpy as np
import pytest

from benchmarks import baselines, protocols

PEOPLE = protocols.People([1], [[1]], [[2]], [[0]])
# Items 1 and 2 share two people of three and two; item 3 goes with item 1 once.
SPLIT = protocols.Split(
    [1, 2, 3], [], [[1, 2, 2], [1, 2], [1, 3]], PEOPLE, PEOPLE, [[0] * 3, [0] * 2, [0] * 2]
)


def test_popularity():
    np.testing.assert_array_equal(baselines.popularity(SPLIT)([[1], [3]]), [[0, 3, 3, 1]] * 2)


def test_item_knn_by_hand():
    one_two, one_three = 2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 1)
    scores = baselines.item_knn(SPLIT)([[1], [2, 3]])
    np.testing.assert_allclose(
        scores, [[0, 0, one_two, one_three], [0, one_two + one_three, 0, 0]], rtol=1e-6
    )
    nearest_only = baselines.item_knn(SPLIT, neighbours=1)([[1]])
    np.testing.assert_allclose(nearest_only, [[0, 0, one_two, 0]], rtol=1e-6)


def test_metrics():
    result, ranks = baselines.evaluate(baselines.item_knn(SPLIT), PEOPLE, (1,))
    assert result["excluded.recall@1"] == 1
    assert result["included.recall@1"] == pytest.approx(1)
    assert (ranks["excluded"] == 1).any()


def test_personal_frequency_goes_by_number_then_time_then_popularity():
    scores = baselines.personal_frequency(SPLIT)([[3, 1, 3], [3, 1]])
    orders = np.argsort(-scores[:, 1:], axis=1) + 1
    np.testing.assert_array_equal(orders, [[3, 1, 2], [1, 3, 2]])
