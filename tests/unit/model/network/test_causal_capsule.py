"""Routing of all prefixes against a float64 NumPy reference of each, and its invariants."""

import numpy as np
import pytest
import tensorflow as tf

from model.network.causal_capsule import CausalCapsuleLayer

B, T, D, K = 3, 9, 6, 3


def _layer(**changes):
    layer = CausalCapsuleLayer(D, T + 2, K, **changes)
    layer(tf.zeros([1, T, D]))
    rng = np.random.default_rng(0)
    layer.set_weights([w + rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return layer


def _behaviors(seed=1):
    return np.random.default_rng(seed).normal(size=(B, T, D)).astype(np.float32)


def _squash(z):
    norm = np.linalg.norm(z)
    return norm**2 / (1 + norm**2) * z / max(norm, 1e-30)


def _reference(layer, sequence):
    """Capsules [T, K, D] of one sequence [T, D], prefix after prefix."""
    weights = [w.astype(np.float64) for w in layer.get_weights()]
    mapping, prototypes = weights[0], weights[1]
    recency = np.exp(weights[2]) if layer.recency else np.ones(T + 2)
    mapped = sequence.astype(np.float64) @ mapping
    logits = sequence.astype(np.float64) @ prototypes  # [T, K]
    for t in range(T):
        count = max(1, min(K, int(np.floor(np.log2(t + 1))))) if layer.adaptive else K
        logits[t, count:] = -np.inf
    for iteration in range(layer.iteration_times):
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        capsules = np.zeros([T, K, D])
        for t in range(T):
            for k in range(K):
                z = sum(recency[t - j] * shares[j, k] * mapped[j] for j in range(t + 1))
                capsules[t, k] = _squash(z)
        if iteration < layer.iteration_times - 1:
            for j in range(T):
                agreement = capsules[j] @ mapped[j]
                if layer.cosine_scale:
                    lengths = np.linalg.norm(capsules[j], axis=1) * np.linalg.norm(mapped[j])
                    agreement = layer.cosine_scale * agreement / np.maximum(lengths, 1e-30)
                logits[j] += agreement
    return capsules


@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("scale", "recency"), [(0.0, True), (4.0, False)])
def test_it_equals_the_float64_reference(iterations, adaptive, scale, recency):
    layer = _layer(
        iteration_times=iterations, adaptive=adaptive, cosine_scale=scale, recency=recency
    )
    behaviors = _behaviors()
    capsules = layer(behaviors)
    for row in range(B):
        np.testing.assert_allclose(capsules[row], _reference(layer, behaviors[row]), atol=2e-5)


def test_what_comes_later_changes_nothing():
    layer, behaviors = _layer(), _behaviors()
    expected = layer(behaviors)
    changed = behaviors.copy()
    changed[:, 5:] = _behaviors(2)[:, 5:]
    np.testing.assert_allclose(layer(changed)[:, :5], expected[:, :5], atol=1e-5)
    assert np.abs(layer(changed)[:, 5:] - expected[:, 5:]).max() > 0.01
    np.testing.assert_allclose(layer(behaviors[:, :2]), expected[:, :2], atol=1e-5)
    last = [8, 0, 4]
    one = np.stack([expected[row, place] for row, place in enumerate(last)])
    np.testing.assert_allclose(layer(behaviors, last=tf.constant(last)), one, atol=1e-5)


def test_the_gradient_reaches_prototypes_recency_and_mapping():
    layer, behaviors = _layer(), _behaviors()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(behaviors)[..., 0])
    for weight, gradient in zip(
        layer.trainable_variables, tape.gradient(loss, layer.trainable_variables), strict=True
    ):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 1e-4, weight.name


def test_the_first_logits_have_the_asked_deviation_and_the_map_its_beginning():
    layer = CausalCapsuleLayer(64, 5, 50, init_std=0.5, mapping_init="identity")
    layer(tf.zeros([1, 5, 64]))
    mapping, prototypes = layer.get_weights()[:2]
    np.testing.assert_array_equal(mapping, np.eye(64))
    unit = np.random.default_rng(3).normal(size=(200, 64))  # root mean square 1
    assert np.std(unit @ prototypes) == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="must be 'glorot' or 'identity', received 'zero'"):
        CausalCapsuleLayer(6, 5, 3, mapping_init="zero")


def test_a_layer_made_from_its_configuration_is_the_same():
    layer = _layer(cosine_scale=2.0, iteration_times=2)
    twin = CausalCapsuleLayer.from_config(layer.get_config())
    twin(tf.zeros([1, T, D]))
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(_behaviors()), layer(_behaviors()))
