"""Expected counts against the empirical frequencies."""

import numpy as np
import pytest
import tensorflow as tf

from model.catalogue import Catalogue
from model.config import TrainingConfig
from model.training.sampling import NegativeSampler

COUNTS = np.array([0, 8, 5, 4, 2, 1, 0, 0])  # five items seen, two not


def _sampler(kind, number):
    config = TrainingConfig(negatives=kind, num_negatives=number)
    return NegativeSampler(config, Catalogue(COUNTS))


@pytest.mark.parametrize("kind", ["log_uniform", "uniform"])
def test_draws_have_the_expected_counts(kind):
    # Four draws at a time of five items; many batches.
    sampler = _sampler(kind, 4)
    generator = tf.random.Generator.from_seed(1)
    batches = 4_000
    targets = tf.constant([1, 2, 3, 4, 5])

    @tf.function  # as the training step calls it, and much faster than op by op
    def draw():
        return sampler.draw(targets, generator).items

    drawn = np.concatenate([draw().numpy() for _ in range(batches)])
    expected = np.exp(sampler.draw(targets, generator).target_log_expected_count)
    assert expected.sum() == pytest.approx(4, rel=1e-5)
    counts = np.bincount(drawn, minlength=8)
    assert counts[0] == counts[6] == counts[7] == 0  # padding and unseen items
    # Five standard deviations of a binomial count.
    mean = expected * batches
    assert (np.abs(counts[1:6] - mean) < 5 * np.sqrt(mean)).all()


def test_log_uniform_prefers_frequent_items_by_the_formula():
    sampler = _sampler("log_uniform", 3)
    negatives = sampler.draw(tf.constant([1, 5]), tf.random.Generator.from_seed(1))
    ranks = np.array([1, 5])
    expected = 3 * np.log((ranks + 1) / ranks) / np.log(6)
    np.testing.assert_allclose(np.exp(negatives.target_log_expected_count), expected, rtol=1e-5)
    own = np.exp(negatives.log_expected_count)
    np.testing.assert_allclose(
        own, 3 * np.log1p(1 / negatives.items.numpy()) / np.log(6), rtol=1e-5
    )


def test_in_batch_counts_follow_train_frequency():
    targets = tf.constant([1, 4, 1])
    negatives = _sampler("in_batch", 4).draw(targets, tf.random.Generator.from_seed(1))
    np.testing.assert_array_equal(negatives.items, targets)
    np.testing.assert_allclose(
        np.exp(negatives.log_expected_count), 3 * np.array([8, 2, 8]) / 20, rtol=1e-5
    )


def test_mixed_counts_are_the_sum_of_both_sources():
    targets = tf.constant([1, 4])
    negatives = _sampler("mixed", 4).draw(targets, tf.random.Generator.from_seed(1))
    assert negatives.items.shape == [6]
    np.testing.assert_array_equal(negatives.items[:2], targets)
    ranks = np.array([1, 4])
    expected = 2 * np.array([8, 2]) / 20 + 4 * np.log1p(1 / ranks) / np.log(6)
    np.testing.assert_allclose(np.exp(negatives.target_log_expected_count), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["log_uniform", "uniform"])
def test_enough_negatives_are_the_whole_catalogue(kind):
    sampler = _sampler(kind, 5)
    assert sampler.is_exact
    negatives = sampler.draw(tf.constant([2]), tf.random.Generator.from_seed(1))
    np.testing.assert_array_equal(negatives.items, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(negatives.log_expected_count, 0)
    np.testing.assert_array_equal(negatives.target_log_expected_count, [0])


def test_draws_repeat_with_the_generator():
    sampler = _sampler("log_uniform", 4)
    first, second = (
        sampler.draw(tf.constant([1]), tf.random.Generator.from_seed(3)).items for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_catalogue_without_train_counts_is_refused():
    with pytest.raises(ValueError, match="No item was seen in train"):
        NegativeSampler(TrainingConfig(), Catalogue(np.zeros(3, np.int64)))
