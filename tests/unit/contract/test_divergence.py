import math

import numpy as np
import pytest
from scipy.spatial import distance

from contract.divergence import jensen_shannon


def test_equal_shares_are_not_apart_whatever_their_sums():
    assert jensen_shannon(np.array([1, 2, 0]), np.array([10, 20, 0])) == 0.0


def test_nothing_in_common_is_one():
    assert jensen_shannon(np.array([3, 0]), np.array([0, 5])) == pytest.approx(1.0)


def test_by_hand():
    # p = (1, 0), q = (1/2, 1/2), their mean (3/4, 1/4):
    # (log2(4/3) + (1/2 log2(2/3) + 1/2 log2(2))) / 2
    expected = (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5) / 2
    assert jensen_shannon(np.array([7, 0]), np.array([4, 4])) == pytest.approx(expected)
    assert jensen_shannon(np.array([4, 4]), np.array([7, 0])) == pytest.approx(expected)


def test_an_empty_histogram_cannot_be_compared():
    assert jensen_shannon(np.zeros(2), np.array([1, 2])) is None
    assert jensen_shannon(np.array([1, 2]), np.zeros(2)) is None


def test_random_histograms_against_scipy():
    rng = np.random.default_rng(3)
    for one, other in rng.integers(0, 5, [20, 2, 8]) + np.eye(8, dtype=int)[:2]:
        expected = distance.jensenshannon(one, other, 2) ** 2
        assert jensen_shannon(one, other) == pytest.approx(expected, abs=1e-12)
