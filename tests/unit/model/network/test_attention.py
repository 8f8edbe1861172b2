"""Label-aware attention for every power."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.attention import LabelAwareAttention, attention_weights

POWERS = [0.0, 0.5, 1.0, 2.0, 7.0, 100.0, math.inf]


def _reference(scores, mask, power):
    """Float64, one row."""
    s = np.asarray(scores, np.float64)[mask]
    if math.isinf(power):
        w = (np.arange(len(s)) == np.argmax(s)).astype(float)
    else:
        x = np.ones_like(s) if power == 0 else np.sign(s) * np.abs(s) ** power
        w = np.exp(x - x.max())
        w /= w.sum()
    result = np.zeros(len(mask))
    result[mask] = w
    return result


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("scale", [1e-4, 0.3, 1.0, 3.0, 40.0])
def test_weights_equal_the_float64_reference(power, scale):
    rng = np.random.default_rng(0)
    scores = (scale * rng.uniform(-1, 1, (50, 4))).astype(np.float32)
    mask = np.arange(4) < rng.integers(1, 5, (50, 1))
    weights = attention_weights(tf.constant(scores), tf.constant(mask), power).numpy()
    expected = [_reference(s, m, power) for s, m in zip(scores, mask, strict=True)]
    np.testing.assert_allclose(weights, expected, atol=1e-5)


@pytest.mark.parametrize("power", POWERS[1:])
@pytest.mark.parametrize(
    "scores", [[-0.9, 0.8], [-30.0, 20.0], [0.2, 0.3], [-0.3, -0.2], [0.0, 0.1]]
)
def test_the_better_interest_always_weighs_more(power, scores):
    low, high = attention_weights(tf.constant([scores]), tf.constant([[True] * 2]), power).numpy()[
        0
    ]
    assert high > low
    assert low + high == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(
    # TensorFlow takes subnormal numbers for zero.
    scores=st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=3, max_size=3),
    power=st.sampled_from(POWERS),
    active=st.integers(1, 3),
)
def test_no_power_gives_nan_or_breaks_the_order(scores, power, active):
    x = tf.constant([scores], tf.float32)
    mask = tf.sequence_mask([active], 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        weights = attention_weights(x, mask, power)
        y = tf.reduce_sum(weights * tf.constant([[1.0, 2.0, 4.0]]))
    gradient = tape.gradient(y, x)
    assert np.isfinite(weights).all()
    assert gradient is None or np.isfinite(gradient).all()
    w = weights.numpy()[0]
    assert w.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(w[active:], 0)
    for i in range(active):
        for j in range(active):
            if scores[i] > scores[j]:
                assert w[i] >= w[j]


def test_the_gradient_of_a_power():
    x = tf.constant([[0.5, -1.5, 2.0]])
    coefficients = tf.constant([[1.0, -2.0, 0.5]])
    mask = tf.fill([1, 3], True)
    for power in (0.5, 2.0, 3.0):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = tf.reduce_sum(attention_weights(x, mask, power) * coefficients)
            plain = tf.nn.softmax(tf.sign(x) * tf.abs(x) ** power)
            expected = tf.reduce_sum(plain * coefficients)
        np.testing.assert_allclose(
            tape.gradient(y, x), tape.gradient(expected, x), rtol=1e-4, atol=1e-6
        )


def test_the_layer_mixes_active_keys():
    keys = tf.constant([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    query = tf.constant([[[1.0, 1.0]]])
    # History of 4: two interests of three. Scores 1 and 2, p = 1.
    expected = np.array([math.e, 2 * math.e**2]) / (math.e + math.e**2)
    mixed = LabelAwareAttention(k_max=3)([keys, query, tf.constant([[4]])])
    np.testing.assert_allclose(mixed, [expected], rtol=1e-5)
    hard = LabelAwareAttention(k_max=3, pow_p=math.inf)
    np.testing.assert_array_equal(hard([keys, query, tf.constant([[4]])]), [[0.0, 2.0]])
    # Without a history length all interests are active.
    np.testing.assert_array_equal(hard([keys, query]), [[9.0, 9.0]])
    all_active = LabelAwareAttention(k_max=3, pow_p=math.inf, adaptive=False)
    np.testing.assert_array_equal(all_active([keys, query, tf.constant([[1]])]), [[9.0, 9.0]])


def test_the_weights_on_request_and_the_temperature():
    keys = tf.constant([[[1.0, 0.0], [0.0, 2.0]]])
    layer = LabelAwareAttention(k_max=2, temperature=0.5)
    mixed, weights = layer([keys, tf.constant([[[1.0, 1.0]]])], return_attention_weights=True)
    expected = np.array([math.e**2, math.e**4]) / (math.e**2 + math.e**4)
    np.testing.assert_allclose(weights, [expected], rtol=1e-5)
    np.testing.assert_allclose(mixed, [expected * [1, 2]], rtol=1e-5)


def test_config_and_shape():
    layer = LabelAwareAttention(k_max=3, pow_p=2, adaptive=False, temperature=0.1)
    again = LabelAwareAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert layer.compute_output_shape([(5, 3, 8), (5, 1, 8), (5, 1)]) == (5, 8)


def test_a_negative_power_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        LabelAwareAttention(k_max=3, pow_p=-1)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        LabelAwareAttention(k_max=3, temperature=0.0)
