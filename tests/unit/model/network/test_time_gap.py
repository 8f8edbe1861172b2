"""Time gaps: buckets by hand, and what the model makes of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from model.catalogue import Catalogue
from model.config import ModelConfig, TrainingConfig
from model.network.mind import MindModel
from model.network.time_gap import NUM_BUCKETS, time_gap_buckets

CONFIG = ModelConfig(
    embedding_dim=8, num_interests=2, history_length=4, hidden_units=(8,), time_gap=True
)
HISTORY = tf.constant([[1, 2, 3, 4], [5, 3, 0, 0]])
TIMES = tf.constant([[100, 2_000, 2_030, 2_031], [10, 500, 0, 0]], tf.int64)


@pytest.fixture(scope="module")
def model():
    training = TrainingConfig(num_negatives=5)
    mind = MindModel(CONFIG, training, Catalogue(np.array([0, 5, 4, 3, 2, 1])))
    rng = np.random.default_rng(0)
    mind._time_gap_weight.assign(rng.normal(size=NUM_BUCKETS))
    return mind


@pytest.mark.parametrize(
    ("gap", "bucket"),
    [(0, 1), (1, 2), (2, 3), (3, 3), (4, 4), (7, 4), (8, 5), (2**30 - 1, 31), (2**30, 32),
     (2**40, 32)],
)  # fmt: skip
def test_each_bucket_begins_at_twice_the_gap(gap, bucket):
    newest = 2**41
    times = tf.constant([[newest - gap, newest]], tf.int64)
    np.testing.assert_array_equal(time_gap_buckets(times), [[bucket, 1]])
    assert bucket < NUM_BUCKETS


def test_unknown_times_have_a_bucket_of_their_own():
    times = tf.constant([[0, 95, 100, 0], [0, 0, 0, 0], [-8, -7, 0, 0]], tf.int64)
    # Before 1970 is a time like any other.
    np.testing.assert_array_equal(time_gap_buckets(times), [[0, 4, 1, 0], [0] * 4, [2, 1, 0, 0]])


def test_only_the_distance_to_the_newest_behaviour_counts(model):
    interests, _ = model.user_interests(HISTORY, {}, TIMES)
    later = tf.where(TIMES > 0, TIMES + 86_400, 0)
    np.testing.assert_array_equal(model.user_interests(HISTORY, {}, later)[0], interests)
    closer = tf.constant([[1_900, 2_000, 2_030, 2_031], [10, 500, 0, 0]], tf.int64)
    changed = np.abs(model.user_interests(HISTORY, {}, closer)[0] - interests).max(axis=(1, 2))
    assert changed[0] > 1e-3
    assert changed[1] == 0.0


def test_interests_do_not_depend_on_padding_or_batch_mates(model):
    interests, _ = model.user_interests(HISTORY, {}, TIMES)
    alone, _ = model.user_interests(HISTORY[1:, :2], {}, TIMES[1:, :2])
    np.testing.assert_allclose(alone[0], interests[1], atol=1e-6)


def test_a_model_that_reads_times_asks_for_them(model):
    with pytest.raises(ValueError, match="time_gap"):
        model.user_interests(HISTORY, {})


def test_training_reaches_the_weights_of_the_gaps(model):
    batch = {
        "history": HISTORY,
        "target": tf.constant([5, 1]),
        "profile": {},
        "history_time": TIMES,
    }
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    variables = [model._time_gaps, model._time_gap_weight]
    for gradient in tape.gradient(loss, variables):
        rows = tf.unique(gradient.indices)[0].numpy()
        # Gaps 1931, 31, 1 and 0 seconds of one person, 490 and 0 of the other.
        assert {12, 6, 2, 1, 10} <= set(rows.tolist())
        assert np.abs(gradient.values).max() > 0


def test_some_people_lose_their_times_in_training():
    config = dataclasses.replace(CONFIG, dropout=0.0, routing_init_std=0.0, time_dropout=0.3)
    mind = MindModel(config, TrainingConfig(num_negatives=5), Catalogue(np.array([0, 5, 4, 3, 2])))
    mind._time_gap_weight.assign(np.random.default_rng(0).normal(size=NUM_BUCKETS))
    history, times = tf.constant([[1, 2, 3, 4]] * 500), tf.repeat(TIMES[:1], 500, axis=0)
    known = mind.user_interests(history[:1], {}, times[:1])[0]
    unknown = mind.user_interests(history[:1], {}, 0 * times[:1])[0]
    drawn = mind.user_interests(history, {}, times, training=True)[0]

    def is_like(interests):
        return np.abs(drawn - interests).max(axis=(1, 2)) < 1e-5

    np.testing.assert_array_equal(is_like(known), ~is_like(unknown))
    assert 100 < is_like(unknown).sum() < 200


def test_without_the_option_times_change_nothing():
    training = TrainingConfig(num_negatives=5)
    plain = MindModel(
        dataclasses.replace(CONFIG, time_gap=False),
        training,
        Catalogue(np.array([0, 5, 4, 3, 2, 1])),
    )
    assert not [v.name for v in plain.variables if "time_gap" in v.name]
    np.testing.assert_array_equal(
        plain.user_interests(HISTORY, {}, TIMES)[0], plain.user_interests(HISTORY, {})[0]
    )
