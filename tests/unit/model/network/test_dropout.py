"""Share, scale and independence of dropped entries."""

import numpy as np
import pytest
import tensorflow as tf

from model.network.dropout import dropout_factors


def _draw(shape, rate, seed=1):
    return dropout_factors(tf.constant(shape), rate, tf.random.Generator.from_seed(seed)).numpy()


# The last dimension is no multiple of the four entries that a draw decides about.
@pytest.mark.parametrize("shape", [[400, 50, 64], [1000, 101], [20_000, 5]])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_share_and_scale(shape, rate):
    factors = _draw(shape, rate)
    assert factors.shape == tuple(shape)
    rounded = round(rate * 256) / 256
    np.testing.assert_allclose(np.unique(factors), [0.0, 1 / (1 - rounded)], rtol=1e-6)
    # Five standard deviations of a binomial share.
    tolerance = 5 * np.sqrt(rounded * (1 - rounded) / factors.size)
    assert abs(np.mean(factors == 0) - rounded) < tolerance


def test_neighbours_are_independent():
    kept = _draw([50_000, 8], 0.5) > 0
    for a in range(8):
        for b in range(a):
            # Both are kept in a quarter of the rows, within five standard deviations.
            assert abs(np.mean(kept[:, a] & kept[:, b]) - 0.25) < 5 * np.sqrt(0.1875 / 50_000)


def test_draws_follow_the_generator():
    np.testing.assert_array_equal(_draw([9, 7], 0.5), _draw([9, 7], 0.5))
    assert (_draw([9, 7], 0.5) != _draw([9, 7], 0.5, seed=2)).any()


@pytest.mark.parametrize("rate", [0.0, 0.999])
def test_ends_of_the_range(rate):
    factors = _draw([1000, 64], rate)
    if rate == 0.0:
        assert (factors == 1.0).all()
    else:
        assert 0 < np.mean(factors > 0) < 0.01  # something is always kept
