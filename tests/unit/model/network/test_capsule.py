"""Routing against a float64 NumPy reference, and its invariants."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.capsule import CapsuleLayer, interest_count, interest_mask, squash

B, T, D, OUT, K = 5, 9, 6, 4, 3
LENGTHS = np.array([9, 1, 4, 2, 7])


def _reference_squash(z):
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    return norm**2 / (1 + norm**2) * z / np.maximum(norm, 1e-30)


def _reference_count(length, k):
    return max(1, min(k, int(np.floor(np.log2(length))) if length else 0))


def _reference_routing(behaviors, length, mapping, logits, k_active, iterations, scale=0.0):
    """One person; behaviors [T, D] float64, logits [K, T]."""
    mapped = behaviors[:length] @ mapping  # [length, OUT]
    lengths = np.linalg.norm(mapped, axis=1)
    b = logits[:k_active, :length].copy()
    for i in range(iterations):
        w = np.exp(b) / np.exp(b).sum(axis=0, keepdims=True)
        u = _reference_squash(w @ mapped)
        if i < iterations - 1 and scale:
            cosines = u @ mapped.T / np.outer(np.linalg.norm(u, axis=1), lengths)
            b = b + scale * cosines
        elif i < iterations - 1:
            b = b + u @ mapped.T
    result = np.zeros((len(logits), mapping.shape[1]))
    result[:k_active] = u
    return result


def _layer(**kwargs):
    layer = CapsuleLayer(D, OUT, T, K, **kwargs)
    layer([tf.zeros([1, T, D]), tf.ones([1, 1], tf.int32)])
    return layer


def _inputs(seed=0, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    behaviors = rng.normal(size=(len(lengths), T, D)).astype(np.float32)
    return behaviors, np.asarray(lengths, np.int32)[:, np.newaxis]


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("scale", [0.0, 4.0])
def test_routing_equals_the_float64_reference(iterations, adaptive, scale):
    layer = _layer(iteration_times=iterations, adaptive=adaptive, cosine_scale=scale)
    behaviors, seq_len = _inputs()
    logits = np.random.default_rng(1).normal(size=(B, K, T))
    capsules = layer([behaviors, seq_len], routing_logits=tf.constant(logits, tf.float32)).numpy()
    mapping = layer.bilinear_mapping.numpy().astype(np.float64)
    for u, length in enumerate(LENGTHS):
        k = _reference_count(length, K) if adaptive else K
        expected = _reference_routing(
            behaviors[u].astype(np.float64), length, mapping, logits[u], k, iterations, scale
        )
        np.testing.assert_allclose(capsules[u], expected, atol=1e-5)


def test_routing_by_cosine_does_not_depend_on_the_length_of_behaviours():
    layer = _layer(cosine_scale=4.0)
    behaviors, seq_len = _inputs()
    directions = [
        tf.math.l2_normalize(layer([factor * behaviors, seq_len]), axis=-1)
        for factor in (0.1, 1.0, 10.0)
    ]
    for direction in directions[:2]:
        np.testing.assert_allclose(direction, directions[2], atol=1e-5)


@pytest.mark.parametrize(("length", "expected"), [
    (0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (15, 3), (16, 4), (31, 4), (32, 5),
    (63, 5), (64, 5), (100_000, 5), (2**30, 5),
])  # fmt: skip
def test_interest_count_at_every_boundary(length, expected):
    assert interest_count(tf.constant([length]), 5).numpy() == [expected]


@given(length=st.integers(0, 2**31 - 1), k=st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_interest_count_is_the_floor_of_log2(length, k):
    # bit_length is exact where a floating-point logarithm may not be.
    expected = max(1, min(k, length.bit_length() - 1))
    assert int(interest_count(tf.constant(length), k)) == expected


def test_interest_mask_puts_the_active_ones_first():
    mask = interest_mask(tf.constant([1, 4, 100]), 3)
    np.testing.assert_array_equal(mask, [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(interest_mask(tf.constant([1]), 3, adaptive=False), [[1, 1, 1]])


def test_squash_keeps_direction_and_bounds_length():
    z = tf.constant([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0], [3e5, 4e5]])
    np.testing.assert_allclose(
        squash(z), [[0.6 * 25 / 26, 0.8 * 25 / 26], [0.6 * 0.0025 / 1.0025, 0.8 * 0.0025 / 1.0025],
                    [0.0, 0.0], [0.6, 0.8]], rtol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["max_len", "k_max", "iteration_times"])
def test_an_argument_that_is_too_small_is_named(name):
    arguments = {"input_units": 4, "out_units": 4, "max_len": 5, "k_max": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, received 0"):
        CapsuleLayer(**arguments)


def test_squash_has_a_finite_gradient_at_zero():
    z = tf.zeros([1, 4])
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = tf.reduce_sum(squash(z))
    np.testing.assert_array_equal(tape.gradient(y, z), np.zeros([1, 4]))


def test_interests_depend_on_nothing_but_the_person():
    layer = _layer()
    behaviors, seq_len = _inputs()
    together = layer([behaviors, seq_len]).numpy()
    again = layer([behaviors, seq_len]).numpy()
    np.testing.assert_array_equal(together, again)
    shuffled = layer([behaviors[::-1], seq_len[::-1]]).numpy()[::-1]
    np.testing.assert_allclose(shuffled, together, atol=1e-6)
    for u in range(B):
        alone = layer([behaviors[u : u + 1], seq_len[u : u + 1]])[0]
        np.testing.assert_allclose(alone, together[u], atol=1e-6)


def test_training_calls_leave_inference_alone():
    layer = _layer()
    behaviors, seq_len = _inputs()
    before = layer([behaviors, seq_len]).numpy()
    layer([behaviors, seq_len], training=True)
    np.testing.assert_array_equal(layer([behaviors, seq_len]), before)


def test_training_draws_anew_for_every_person_and_call():
    layer = _layer()
    row, _ = _inputs(lengths=[9])
    behaviors, seq_len = np.repeat(row, 2, axis=0), [[9], [9]]
    first = layer([behaviors, seq_len], training=True).numpy()
    second = layer([behaviors, seq_len], training=True).numpy()
    assert np.abs(first[0] - first[1]).max() > 1e-3
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("junk", [0.0, 1e3])
def test_padding_never_leaks(junk):
    layer = _layer()
    behaviors, seq_len = _inputs()
    expected = layer([behaviors, seq_len]).numpy()
    for u, length in enumerate(LENGTHS):
        behaviors[u, length:] = junk
    np.testing.assert_allclose(layer([behaviors, seq_len]), expected, atol=1e-6)
    # A narrower batch: cut after the longest of the short histories.
    narrow = layer([behaviors[1:4, :4], seq_len[1:4]])
    np.testing.assert_allclose(narrow, expected[1:4], atol=1e-6)


def test_permuting_behaviors_with_their_logits_changes_nothing():
    layer = _layer()
    behaviors, seq_len = _inputs(lengths=[9] * B)
    logits = np.random.default_rng(2).normal(size=(B, K, T)).astype(np.float32)
    order = np.random.default_rng(3).permutation(T)
    expected = layer([behaviors, seq_len], routing_logits=logits)
    permuted = layer([behaviors[:, order], seq_len], routing_logits=logits[:, :, order])
    np.testing.assert_allclose(permuted, expected, atol=1e-5)


def test_permuting_interests_permutes_capsules():
    layer = _layer()
    behaviors, seq_len = _inputs(lengths=[9] * B)
    logits = np.random.default_rng(2).normal(size=(B, K, T)).astype(np.float32)
    order = [2, 0, 1]
    expected = layer([behaviors, seq_len], routing_logits=logits).numpy()[:, order]
    permuted = layer([behaviors, seq_len], routing_logits=logits[:, order])
    np.testing.assert_allclose(permuted, expected, atol=1e-5)


def test_gradient_flows_through_the_last_iteration_only():
    layer = _layer()
    behaviors, seq_len = _inputs(lengths=[9] * B)
    logits = np.random.default_rng(4).normal(size=(B, K, T)).astype(np.float32)
    upstream = tf.constant(np.random.default_rng(5).normal(size=(B, K, OUT)), tf.float32)
    x = tf.constant(behaviors)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer([x, seq_len], routing_logits=logits) * upstream)
    actual = tape.gradient(y, [x, layer.bilinear_mapping])
    # Reference: the last iteration's weights as plain numbers.
    mapping = layer.bilinear_mapping.numpy().astype(np.float64)
    weights = np.zeros((B, K, T))
    for u in range(B):
        mapped = behaviors[u] @ mapping
        b = logits[u].astype(np.float64)
        for _ in range(2):
            w = np.exp(b) / np.exp(b).sum(axis=0)
            b = b + _reference_squash(w @ mapped) @ mapped.T
        weights[u] = np.exp(b) / np.exp(b).sum(axis=0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        last = squash(tf.constant(weights, tf.float32) @ (x @ layer.bilinear_mapping))
        y = tf.reduce_sum(last * upstream)
    expected = tape.gradient(y, [x, layer.bilinear_mapping])
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_inactive_interests_are_zero_and_take_no_share():
    layer = _layer()
    behaviors, seq_len = _inputs(lengths=[5])  # two interests of three
    capsules = layer([behaviors, seq_len]).numpy()[0]
    assert np.abs(capsules[:2]).min() > 0
    np.testing.assert_array_equal(capsules[2], 0)
    two = CapsuleLayer(D, OUT, T, 2)
    two.build([(None, T, D), (None, 1)])
    two.set_weights(layer.get_weights()[:1])
    fixed = np.random.default_rng(6).normal(size=(1, K, T)).astype(np.float32)
    np.testing.assert_allclose(
        layer([behaviors, seq_len], routing_logits=fixed)[0, :2],
        two([behaviors, seq_len], routing_logits=fixed[:, :2])[0],
        atol=1e-6,
    )


def test_an_empty_history_gives_zeros():
    layer = _layer()
    behaviors, seq_len = _inputs(lengths=[0])
    for training in (False, True):
        np.testing.assert_array_equal(
            layer([behaviors, seq_len], training=training), np.zeros([1, K, OUT])
        )


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match=r"10 positions and max_len is 9"):
        _layer()([tf.zeros([1, 10, D]), [[3]]])


def test_an_unknown_routing_is_refused():
    with pytest.raises(ValueError, match="'b2i' or 'shared_logits', received 'x'"):
        CapsuleLayer(D, OUT, T, K, routing="x")


def test_identity_mapping_leaves_behaviors_where_they_are():
    layer = CapsuleLayer(3, 3, max_len=4, k_max=1, mapping_init="identity")
    # One interest takes everything: the capsule is the squashed sum, unmapped.
    behaviors = tf.constant([[[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
    capsule = layer([behaviors, tf.constant([[2]])])[0, 0]
    np.testing.assert_allclose(capsule, 25 / 26 * np.array([0.6, 0.8, 0.0]), rtol=1e-5)


def test_an_unknown_mapping_is_refused():
    with pytest.raises(ValueError, match=r"mapping_init.*'random'"):
        CapsuleLayer(3, 3, max_len=4, k_max=1, mapping_init="random")


def test_config_rebuilds_the_layer():
    layer = _layer(iteration_times=2, init_std=0.5, adaptive=False, seed=7)
    again = CapsuleLayer.from_config(layer.get_config())
    behaviors, seq_len = _inputs()
    again([behaviors, seq_len])
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again([behaviors, seq_len]), layer([behaviors, seq_len]))
    assert again.get_config() == layer.get_config()
    assert layer.compute_output_shape([(B, T, D), (B, 1)]) == (B, K, OUT)


def test_a_keras_model_with_the_layer_can_be_saved(tmp_path):
    behaviors_in = tf.keras.Input([T, D])
    length_in = tf.keras.Input([1], dtype=tf.int32)
    layer = CapsuleLayer(D, OUT, T, K)
    saved = tf.keras.Model([behaviors_in, length_in], layer([behaviors_in, length_in]))
    behaviors, seq_len = _inputs()
    expected = saved([behaviors, seq_len])
    saved.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded([behaviors, seq_len]), expected)


def test_shared_logits_have_the_faults_that_b2i_has_not():
    """What the listing's routing does to a person, see docs/model.md."""
    layer = _layer(routing="shared_logits")
    behaviors, seq_len = _inputs()
    start = layer.shared_logits.numpy()
    first = layer([behaviors, seq_len]).numpy()
    # It drifts: the same call at inference gives other interests, ever further.
    for _ in range(5):
        later = layer([behaviors, seq_len]).numpy()
    assert np.abs(later - first).max() > 5e-3
    # It mixes people: interests depend on who else is in the batch.
    layer.shared_logits.assign(start)
    alone = layer([behaviors[:1], seq_len[:1]]).numpy()
    assert np.abs(alone[0] - first[0]).max() > 1e-3


def test_shared_logits_equal_the_listing():
    layer = _layer(routing="shared_logits", iteration_times=2)
    behaviors, seq_len = _inputs()
    b = layer.shared_logits.numpy().astype(np.float64)
    mapping = layer.bilinear_mapping.numpy().astype(np.float64)
    mapped = behaviors @ mapping
    valid = np.arange(T)[np.newaxis, np.newaxis] < LENGTHS[:, np.newaxis, np.newaxis]
    for _ in range(2):
        w = np.where(valid, np.exp(b), 0)
        w /= w.sum(axis=-1, keepdims=True)
        u = _reference_squash(w @ mapped)
        b = b + (u @ mapped.transpose(0, 2, 1)).sum(axis=0, keepdims=True)
    np.testing.assert_allclose(layer([behaviors, seq_len]), u, atol=1e-5)
    np.testing.assert_allclose(layer.shared_logits, b, atol=1e-4)
