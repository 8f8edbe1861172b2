"""The whole model: shapes of the contract, invariance, planted interests."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from model.catalogue import Catalogue
from model.config import EncoderConfig, ModelConfig, TrainingConfig
from model.network.attention import LabelAwareAttention
from model.network.interest_statistics import interest_statistics
from model.network.mind import MindModel
from model.training.loop import fit
from model.training.validation import predict_interests

CONFIG = ModelConfig(embedding_dim=8, num_interests=3, history_length=6, hidden_units=(16,))
TRAINING = TrainingConfig(num_negatives=5, batch_size=8)
CATALOGUE = Catalogue(
    np.array([0, 9, 7, 5, 4, 3, 2, 1, 0, 0]),
    {"brand": np.array([[0], [1], [2], [1], [2], [1], [2], [1], [2], [0]], np.int32)},
    {"brand": 3},
)
HISTORY = tf.constant([[1, 2, 3, 4, 5, 6], [7, 0, 0, 0, 0, 0], [3, 3, 1, 9, 0, 0], [0] * 6])
PROFILE = {"age": tf.constant([0, 1, 2, 1])}

EXTRACTORS = ("capsule", "self_attentive", "average", "encoder")
ENCODER = EncoderConfig(layers=1, heads=2, dropout=0.1)


def _model(extractor="capsule", **changes):
    if extractor == "encoder":
        changes["encoder"] = ENCODER
    else:
        changes["extractor"] = extractor
    return MindModel(dataclasses.replace(CONFIG, **changes), TRAINING, CATALOGUE, {"age": 3})


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_shapes_and_masks(extractor):
    model = _model(extractor)
    interests, mask = model.user_interests(HISTORY, PROFILE)
    k = 1 if extractor == "average" else 3
    assert interests.shape == (4, k, 8)
    expected = [[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    np.testing.assert_array_equal(mask, np.array(expected)[:, :k])
    np.testing.assert_allclose(np.linalg.norm(interests, axis=-1), 1, rtol=1e-5)
    items = model.item_embeddings()
    assert items.shape == (10, 8)
    # Padding and the item that has neither train counts nor a brand are zero.
    np.testing.assert_allclose(np.linalg.norm(items, axis=-1), [0, *[1] * 8, 0], atol=1e-5)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_interests_are_the_same_alone_in_any_batch_and_under_any_padding(extractor):
    model = _model(extractor)
    expected = model.user_interests(HISTORY, PROFILE)[0].numpy()
    model.user_interests(HISTORY, PROFILE, training=True)
    np.testing.assert_array_equal(model.user_interests(HISTORY, PROFILE)[0], expected)
    for u, length in enumerate((6, 1, 4, 0)):
        narrow = HISTORY[u : u + 1, : max(length, 1)]
        alone, _ = model.user_interests(narrow, {"age": PROFILE["age"][u : u + 1]})
        np.testing.assert_allclose(alone[0], expected[u], atol=1e-5)


def test_profile_and_position_matter():
    model = _model()
    row = HISTORY[:1]
    first, _ = model.user_interests(row, {"age": tf.constant([0])})
    second, _ = model.user_interests(row, {"age": tf.constant([1])})
    assert np.abs(first - second).max() > 1e-4
    # Only the position embedding sees that the same item is older now.
    vectors = model._positions.numpy()
    model._positions.assign(vectors * 0)
    without, _ = model.user_interests(row, {"age": tf.constant([0])})
    assert np.abs(first - without).max() > 1e-4


@pytest.mark.parametrize("power", [np.inf, 2.0])
def test_the_loss_is_the_softmax_of_the_attended_interest(power):
    """One person, one target: label-aware attention, then the softmax over all candidates."""
    config = dataclasses.replace(CONFIG, residual=False, side_features=False, dropout=0.0)
    training = dataclasses.replace(
        TRAINING, num_negatives=7, temperature=0.05, attention_power=power
    )
    model = MindModel(config, training, CATALOGUE)
    interests, mask = model.user_interests(HISTORY[:1], {})
    target = 4
    batch = {"history": HISTORY[:1], "target": tf.constant([target]), "profile": {}}
    items = model.item_embeddings().numpy().astype(np.float64)
    active = interests.numpy().astype(np.float64)[0][mask[0]]  # [K', d]
    fits = active @ items[target] / 0.05  # [K']
    if np.isinf(power):
        weights = np.eye(len(fits))[np.argmax(fits)]
    else:
        powers = np.sign(fits) * np.abs(fits) ** power
        weights = np.exp(powers - powers.max())
        weights /= weights.sum()
    scores = weights @ active @ items[1:8].T / 0.05  # [N seen]
    expected = np.log(np.exp(scores).sum()) - scores[target - 1]
    assert float(model.compute_loss(batch)) == pytest.approx(expected, rel=1e-3)


def test_the_loss_goes_through_the_attention_layer(monkeypatch):
    model = _model()
    batch = {"history": HISTORY[:1], "target": tf.constant([4]), "profile": {"age": [0]}}
    calls = []
    call = LabelAwareAttention.call

    def recorded(self, inputs, **kwargs):
        calls.append((self.k_max, self.pow_p, self.temperature, len(inputs)))
        return call(self, inputs, **kwargs)

    monkeypatch.setattr(LabelAwareAttention, "call", recorded)
    model.compute_loss(batch)
    assert calls == [(3, TRAINING.attention_power, TRAINING.temperature, 3)]


def _following(history):
    """A target after each behaviour of [B, T], 0 where there is none."""
    return np.where(history.numpy() > 0, np.roll(history, -1, axis=1) % 7 + 1, 0)


@pytest.mark.parametrize("scores", ["chosen", "best"])
def test_one_pass_learns_from_every_prefix_as_it_is_served(scores):
    """The loss of a batch of sequences is the mean over their prefixes, each served alone."""
    config = dataclasses.replace(CONFIG, encoder=ENCODER, dropout=0.0, item_id_dropout=0.0)
    training = dataclasses.replace(TRAINING, num_negatives=7, negative_scores=scores)
    model = MindModel(config, training, CATALOGUE, {"age": 3})
    (present,) = (w for w in model.trainable_variables if "present_intent" in w.name)
    present.assign(tf.ones([8]))
    targets = _following(HISTORY)
    items = model.item_embeddings().numpy().astype(np.float64)
    losses = []
    for row, column in zip(*np.nonzero(targets), strict=True):
        prefix = HISTORY[row : row + 1, : column + 1]
        interests, mask = model.user_interests(prefix, {"age": PROFILE["age"][row : row + 1]})
        by_interest = interests.numpy()[0][mask[0]].astype(np.float64) @ items[1:8].T / 0.07
        target = targets[row, column] - 1
        best = by_interest[by_interest[:, target].argmax()]
        candidates = best if scores == "chosen" else by_interest.max(axis=0)
        losses.append(np.log(np.exp(candidates).sum()) - best[target])
    assert len(losses) == 11
    loss = model.compute_loss(
        {"history": HISTORY, "target": tf.constant(targets, tf.int32), "profile": PROFILE}
    )
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-3)


def test_an_encoder_knows_the_time_before_each_behaviour_only():
    model = _model("encoder", time_gap=True)
    times = np.array([[100, 160, 220, 1000, 2000, 0]], np.int64)
    history, profile = HISTORY[:1], {"age": PROFILE["age"][:1]}

    def of_first_three(times):
        return model.user_interests(history[:, :3], profile, tf.constant(times[:, :3]))[0].numpy()

    expected = of_first_three(times)
    later = times.copy()
    later[:, 2] = 100_000
    assert np.abs(of_first_three(later) - expected).max() > 1e-4
    capsules = model._capsules(
        history, tf.constant([6]), tf.constant(times), training=False, every_prefix=True
    )
    whole = model._project(capsules[:, 2], profile)
    np.testing.assert_allclose(whole, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model", {"embedding_dim": 9}, r"model.encoder.heads must divide .* \(9\), received 2"),
        ("model", {"extractor": "average"}, "needs model.extractor to be capsule"),
        ("training", {"targets_per_sequence": 2}, "needs training.targets_per_sequence to be 0"),
        ("training", {"negative_scores": "best", "attention_power": 2.0}, "must be inf; .* 2.0"),
        ("training", {"negatives": "mixed"}, "negatives to be log_uniform or uniform"),
        ("training", {"jit_compile": True}, "needs training.jit_compile to be False"),
    ],
)
def test_what_an_encoder_excludes_is_refused(part, changes, message):
    configs = {"model": dataclasses.replace(CONFIG, encoder=ENCODER), "training": TRAINING}
    configs[part] = dataclasses.replace(configs[part], **changes)
    with pytest.raises(ValueError, match=message):
        MindModel(configs["model"], configs["training"], CATALOGUE)


@pytest.mark.parametrize("extractor", ["capsule", "encoder"])
def test_training_reaches_every_trainable_weight(extractor):
    model = _model(extractor)
    targets = tf.constant([4, 5, 6])
    if extractor == "encoder":
        targets = tf.constant(_following(HISTORY[:3]), tf.int32)
    batch = {
        "history": HISTORY[:3],
        "target": targets,
        "profile": {"age": PROFILE["age"][:3]},
    }
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.name
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.name


def test_equal_seeds_give_equal_models():
    first, second = _model(), _model()
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        first.user_interests(HISTORY, PROFILE, training=True)[0],
        second.user_interests(HISTORY, PROFILE, training=True)[0],
    )


def test_interest_statistics_by_hand():
    # First person: three active interests with cosines 1, 0, 0. Second: one active.
    interests = tf.constant([[[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]] * 3])
    mask = tf.constant([[True, True, True], [True, False, False]])
    statistics = interest_statistics(interests, mask)
    assert float(statistics["active_interests"]) == 2.0
    assert float(statistics["interest_cosine"]) == pytest.approx(1 / 3)
    alone = interest_statistics(interests[1:], mask[1:])
    assert float(alone["interest_cosine"]) == 0.0


def _covered_groups(data, num_interests, directory):
    """Share of planted (person, group) pairs that are the nearest group of an interest."""
    model_config = ModelConfig(
        embedding_dim=16,
        num_interests=num_interests,
        history_length=15,
        hidden_units=(32,),
        dropout=0.1,
    )
    training = TrainingConfig(
        num_negatives=100, batch_size=128, max_steps=1500, eval_every_steps=500,
        learning_rate=5e-3, eval_cutoff=10, eval_exclude_history=False,
    )  # fmt: skip
    model = MindModel(model_config, training, data.catalogue)
    validation = data.validation(15)
    fit(model, data.dataset(), validation, training, str(directory))
    interests, mask = predict_interests(model, validation.history, {})
    items = model.item_embeddings().numpy()
    centres = np.stack([items[data.groups == g].mean(axis=0) for g in range(data.groups.max() + 1)])
    nearest = np.argmax(interests.numpy() @ centres.T, axis=-1)  # [P, K]
    found = (nearest[:, :, np.newaxis] == data.person_groups[:, np.newaxis, :]) & mask.numpy()[
        :, :, np.newaxis
    ]
    return found.any(axis=1).mean()


def test_planted_interests_are_recovered_by_several_but_not_by_one(toy_data, tmp_path):
    assert _covered_groups(toy_data, 4, tmp_path / "four") > 0.8
    assert _covered_groups(toy_data, 1, tmp_path / "one") <= 0.5
