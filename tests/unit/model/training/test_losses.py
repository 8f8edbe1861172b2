"""The loss against a softmax written out in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from model.training.losses import OwnLogits, sampled_softmax_loss
from model.training.sampling import Negatives


def _case():
    rng = np.random.default_rng(0)
    users = rng.normal(size=(3, 4)).astype(np.float32)
    table = rng.normal(size=(8, 4)).astype(np.float32)
    targets = np.array([2, 5, 1])
    items = np.array([3, 5, 7, 3])  # 5 is an accidental hit of the second row
    counts = rng.normal(size=4).astype(np.float32)
    target_counts = rng.normal(size=3).astype(np.float32)
    return users, table, targets, items, counts, target_counts


def _loss(temperature, logq, hard=0.0):
    users, table, targets, items, counts, target_counts = _case()
    negatives = Negatives(tf.constant(items), tf.constant(counts), tf.constant(target_counts))
    return sampled_softmax_loss(
        tf.constant(users), tf.constant(table[targets]), tf.constant(targets),
        tf.constant(table[items]), negatives, temperature, logq, hard,
    )  # fmt: skip


def test_loss_equals_the_written_out_softmax():
    users, table, targets, items, counts, target_counts = _case()
    for temperature, logq in ((1.0, False), (0.1, True)):
        expected = []
        for u in range(3):
            logits = [users[u] @ table[targets[u]] / temperature - logq * target_counts[u]]
            for item, count in zip(items, counts, strict=True):
                if item != targets[u]:
                    logits.append(users[u] @ table[item] / temperature - logq * count)
            logits = np.array(logits, np.float64)
            peak = logits.max()
            expected.append(peak + np.log(np.exp(logits - peak).sum()) - logits[0])
        np.testing.assert_allclose(_loss(temperature, logq), expected, rtol=1e-4, atol=1e-5)


def test_own_items_stand_in_the_softmax_with_logits_of_their_own():
    users, table, targets, items, counts, target_counts = _case()
    rng = np.random.default_rng(1)
    logits, own_counts = rng.normal(size=(2, 3, 3)).astype(np.float32)
    is_candidate = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]], bool)
    negatives = Negatives(tf.constant(items), tf.constant(counts), tf.constant(target_counts))
    loss = sampled_softmax_loss(
        tf.constant(users), tf.constant(table[targets]), tf.constant(targets),
        tf.constant(table[items]), negatives, temperature=0.5, logq_correction=True,
        own=OwnLogits(tf.constant(logits), tf.constant(is_candidate), tf.constant(own_counts)),
    )  # fmt: skip
    for u in range(3):
        own = np.where(is_candidate[u], np.exp(logits[u] - own_counts[u]), 0.0)
        target = np.exp(users[u] @ table[targets[u]] / 0.5 - target_counts[u])
        if is_candidate[u, 0]:
            target = own[0]
        others = own[1:].sum() + sum(
            np.exp(users[u] @ table[item] / 0.5 - count)
            for item, count in zip(items, counts, strict=True)
            if item != targets[u]
        )
        np.testing.assert_allclose(loss[u], -np.log(target / (target + others)), rtol=1e-4)


def test_the_loss_equals_that_of_tfrs():
    """Where both are defined: negatives from the batch, logQ, temperature, accidental hits."""
    rng = np.random.default_rng(2)
    users = tf.constant(rng.normal(size=(5, 4)), tf.float32)
    table = tf.constant(rng.normal(size=(8, 4)), tf.float32)
    targets = tf.constant([2, 5, 1, 2, 7])  # the first and the fourth row hit each other
    vectors = tf.gather(table, targets)
    share = tf.gather(tf.constant(rng.dirichlet(np.ones(8)), tf.float32), targets)
    log_count = tf.math.log(5.0 * share)
    ours = sampled_softmax_loss(
        users, vectors, targets, vectors, Negatives(targets, log_count, log_count), 0.5, True
    )
    task = tfrs.tasks.Retrieval(temperature=0.5, remove_accidental_hits=True)
    theirs = task(
        users, vectors, candidate_sampling_probability=share, candidate_ids=targets
    )  # summed over the batch
    assert float(tf.reduce_sum(ours)) == pytest.approx(float(theirs), rel=1e-5)


def test_hard_negatives_count_by_their_score():
    users, table, targets, items, counts, target_counts = _case()
    for temperature, logq, beta in ((1.0, False, 0.5), (0.5, True, 1.0)):
        expected = []
        for u in range(3):
            positive = users[u] @ table[targets[u]] / temperature - logq * target_counts[u]
            kept = items != targets[u]
            scores = table[items[kept]] @ users[u] / temperature
            share = np.exp(-logq * counts[kept])  # of each candidate, without the tilt
            weights = np.exp(beta * scores)
            weights /= (share * weights).sum() / share.sum()
            others = (share * weights * np.exp(scores)).sum()
            expected.append(np.log(np.exp(positive) + others) - positive)
        np.testing.assert_allclose(_loss(temperature, logq, beta), expected, rtol=1e-4)


def test_logq_makes_the_sampled_softmax_estimate_the_full_one():
    """The mean gradient over many samples is near that of the full softmax."""
    rng = np.random.default_rng(1)
    user = tf.constant(rng.normal(size=(1, 4)), tf.float32)
    table = tf.constant(rng.normal(size=(31, 4)), tf.float32)
    target = tf.constant([4])
    probability = np.append(0, 1 / np.arange(1, 31))
    probability /= probability.sum()
    with tf.GradientTape() as tape:
        tape.watch(user)
        logits = user @ tf.transpose(table[1:])
        full = tf.nn.sparse_softmax_cross_entropy_with_logits(target - 1, logits)
    expected = tape.gradient(full, user).numpy()[0]

    def mean_gradient(logq):
        total = np.zeros(4)
        for _ in range(60):
            items = rng.choice(31, 200, p=probability)
            counts = tf.constant(np.log(200 * probability[items]), tf.float32)
            target_count = tf.constant(np.log(200 * probability[[4]]), tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(user)
                loss = sampled_softmax_loss(
                    user, tf.gather(table, target), target, tf.gather(table, items),
                    Negatives(tf.constant(items, tf.int32), counts, target_count), 1.0, logq,
                )  # fmt: skip
            total += tape.gradient(loss, user).numpy()[0] / 60
        return total

    corrected = np.linalg.norm(mean_gradient(True) - expected)
    plain = np.linalg.norm(mean_gradient(False) - expected)
    assert corrected < 0.1 * np.linalg.norm(expected)
    assert plain > 3 * corrected
