"""The causal encoder against a float64 NumPy reference, and its invariants."""

import numpy as np
import pytest
import tensorflow as tf

from model.network.causal_encoder import CausalEncoder

B, T, D, HEADS, LAYERS, HIDDEN = 3, 7, 8, 2, 2, 12


@pytest.fixture(name="encoder", scope="module")
def _encoder():
    encoder = CausalEncoder(D, T + 2, LAYERS, HEADS, HIDDEN, dropout=0.3)
    encoder(tf.zeros([1, T, D]))
    rng = np.random.default_rng(0)
    # Norms and distances start at 1 and 0, where a fault in them would not be seen.
    for weight in encoder.weights:
        if "factors" in weight.name or "distance" in weight.name:
            weight.assign(rng.normal(1.0, 0.3, weight.shape))
    return encoder


def _behaviors(seed=1):
    return np.random.default_rng(seed).normal(size=(B, T, D)).astype(np.float32)


def _weight(encoder, name):
    (found,) = (w for w in encoder.weights if f"{name}:0" in w.name or f"{name}/" in w.name)
    return found.numpy().astype(np.float64)


def _norm(x, factors):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * factors


def _reference(encoder, sequence):
    """One sequence [T, D]; every position is attended on its own."""
    x = _norm(sequence.astype(np.float64), _weight(encoder, "input_norm"))
    distances = _weight(encoder, "distance_logits")
    size = D // HEADS
    for layer in range(LAYERS):
        normed = _norm(x, _weight(encoder, f"attention_norm_{layer}"))
        mapped = normed @ _weight(encoder, f"query_key_value_{layer}")
        attended = np.zeros_like(x)
        for t in range(len(x)):
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                query = mapped[t, :D][part]
                keys = mapped[: t + 1, D : 2 * D][:, part]
                values = mapped[: t + 1, 2 * D :][:, part]
                logits = keys @ query / np.sqrt(size)
                logits += [distances[layer, head, t - j] for j in range(t + 1)]
                weights = np.exp(logits - logits.max())
                attended[t, part] = weights / weights.sum() @ values
        x = x + attended @ _weight(encoder, f"attended_{layer}")
        both = _norm(x, _weight(encoder, f"hidden_norm_{layer}")) @ _weight(
            encoder, f"gate_and_hidden_{layer}"
        )
        gate, inner = both[:, :HIDDEN], both[:, HIDDEN:]
        x = x + (gate / (1 + np.exp(-gate)) * inner) @ _weight(encoder, f"output_{layer}")
    return _norm(x, _weight(encoder, "output_norm"))


def test_it_equals_the_float64_reference(encoder):
    behaviors = _behaviors()
    encoded = encoder(behaviors)
    for row in range(B):
        np.testing.assert_allclose(encoded[row], _reference(encoder, behaviors[row]), atol=2e-5)


def test_what_comes_later_changes_nothing(encoder):
    behaviors = _behaviors()
    expected = encoder(behaviors)
    changed = behaviors.copy()
    changed[:, 4:] = _behaviors(2)[:, 4:]
    np.testing.assert_allclose(encoder(changed)[:, :4], expected[:, :4], atol=1e-5)
    assert np.abs(encoder(changed)[:, 4:] - expected[:, 4:]).max() > 0.1
    np.testing.assert_allclose(encoder(behaviors[:, :2]), expected[:, :2], atol=1e-5)


def test_what_came_before_and_how_long_ago_matters(encoder):
    behaviors = _behaviors()
    expected = encoder(behaviors)[:, -1]
    other = behaviors.copy()
    other[:, [0, 1]] = other[:, [1, 0]]
    assert np.abs(encoder(other)[:, -1] - expected).max() > 1e-3


def test_nothing_gives_nothing(encoder):
    np.testing.assert_array_equal(encoder(np.zeros([1, T, D], np.float32)), np.zeros([1, T, D]))


def test_dropout_is_for_training_alone(encoder):
    behaviors = _behaviors()
    np.testing.assert_array_equal(encoder(behaviors), encoder(behaviors))
    assert np.abs(encoder(behaviors, training=True) - encoder(behaviors)).max() > 0.1


def test_heads_must_divide_the_size():
    with pytest.raises(ValueError, match=r"num_heads must divide units \(8\), received .*3"):
        CausalEncoder(8, 10, num_heads=3)


def test_a_layer_made_from_its_configuration_is_the_same(encoder):
    twin = CausalEncoder.from_config(encoder.get_config())
    twin(tf.zeros([1, T, D]))
    twin.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(twin(_behaviors()), encoder(_behaviors()))
