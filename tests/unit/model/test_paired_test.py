"""The paired interval against SciPy's, and what it is for."""

import numpy as np
import pytest
from scipy import stats

from model.paired_test import paired_difference


def _grouped(values, groups, size):
    return np.stack([np.bincount(groups, values, size), np.bincount(groups, minlength=size)])


def test_a_person_per_group_gives_the_paired_t_interval():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random([2, 50])
    groups = rng.permutation(80)[:50]
    found = paired_difference(_grouped(ours, groups, 80), _grouped(theirs, groups, 80))
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.people == 50
    assert found.value == pytest.approx(np.mean(ours - theirs))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_groups_of_many_people_cover_the_truth():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        # People differ far more from each other than the models do.
        level = rng.random(3000)
        ours = level + rng.normal(0.01, 0.1, 3000)
        theirs = level + rng.normal(0.0, 0.1, 3000)
        groups = rng.integers(0, 200, 3000)
        found = paired_difference(_grouped(ours, groups, 200), _grouped(theirs, groups, 200))
        covered += found.low <= 0.01 <= found.high
        # Two intervals of the means would be wider than 0.02 each.
        assert found.high - found.low < 0.0125
    assert 0.92 < covered / 400 < 0.98


def test_models_must_have_seen_the_same_people():
    ours, theirs = _grouped(np.ones(2), [0, 1], 3), _grouped(np.ones(2), [0, 2], 3)
    with pytest.raises(ValueError, match="different people"):
        paired_difference(ours, theirs)


def test_a_single_group_says_nothing_for_certain():
    found = paired_difference(_grouped([0.5, 1.0], [0, 0], 2), _grouped([0.0, 0.0], [0, 0], 2))
    assert (found.value, found.low, found.high, found.people) == (0.75, -np.inf, np.inf, 2)
