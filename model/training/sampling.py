"""Negative items for the sampled softmax (MIND section 3.5)."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from model.catalogue import Catalogue
from model.config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Negatives:
    """Negative candidates that all examples of a batch share.

    Attributes:
      items: int32 [C].
      log_expected_count: float32 [C], log of the expected number of times that each
        item is among the candidates.
      target_log_expected_count: float32 [B], the same for the batch's targets.
    """

    items: tf.Tensor
    log_expected_count: tf.Tensor
    target_log_expected_count: tf.Tensor


class NegativeSampler:
    """Draws negatives from the distribution that ``config.negatives`` names.

    Only items seen in training are drawn. Draws are with replacement, so that the
    expected counts for logQ are exact. TensorFlow's candidate samplers are not used,
    because drawing without replacement slows the step down noticeably and their state
    is not part of the checkpoint.

    If ``log_uniform`` or ``uniform`` would draw at least as many items as were seen in
    training, the candidates are all these items, once each, which gives the exact
    softmax.

    Example:
      >>> catalogue = Catalogue(np.array([0, 9, 5, 2, 1]))
      >>> sampler = NegativeSampler(TrainingConfig(num_negatives=3), catalogue)
      >>> negatives = sampler.draw(tf.constant([1, 2]), tf.random.Generator.from_seed(1))
      >>> negatives.items.shape
      TensorShape([3])

    Args:
      config: Its ``negatives`` and ``num_negatives`` are used.
      catalogue: Items and train counts.

    Raises:
      ValueError: if no item was seen in training.
    """

    def __init__(self, config: TrainingConfig, catalogue: Catalogue):
        self._kind = config.negatives
        self._num_sampled = config.num_negatives
        self._num_seen = catalogue.num_seen
        if self._num_seen == 0:
            raise ValueError("No item was seen in training: train_counts are all 0.")
        total = max(int(catalogue.train_counts.sum()), 1)
        share = np.maximum(catalogue.train_counts, 1) / total
        self._log_share = tf.constant(np.log(share), tf.float32)  # [N + 1]

    @property
    def is_exact(self) -> bool:
        """Whether the candidates are all items seen in training."""
        return self._kind in ("log_uniform", "uniform") and self._num_sampled >= self._num_seen

    def draw(self, targets: tf.Tensor, generator: tf.random.Generator) -> Negatives:
        """Draws the negatives of one batch.

        Args:
          targets: int32 [B], item indices.
          generator: Source of randomness.
        """
        if self.is_exact:
            items = tf.range(1, self._num_seen + 1)
            return Negatives(items, tf.zeros([self._num_seen]), tf.zeros_like(targets, tf.float32))
        if self._kind == "in_batch":
            return self._in_batch(targets)
        sampled = self._sample(targets, generator)
        if self._kind != "mixed":
            return sampled
        # An item may come from either source, so that its expected counts are added
        # (mixed negative sampling, Yang et al., WWW 2020).
        batch = tf.math.log(tf.cast(tf.size(targets), tf.float32))
        items = tf.concat([targets, sampled.items], axis=0)

        def log_count(ids: tf.Tensor) -> tf.Tensor:
            from_batch = batch + tf.gather(self._log_share, ids)
            return tf.reduce_logsumexp(
                tf.stack([from_batch, self._log_sampled_count(ids, "log_uniform")]), axis=0
            )

        return Negatives(items, log_count(items), log_count(targets))

    def _in_batch(self, targets: tf.Tensor) -> Negatives:
        # Targets occur in proportion to the train counts.
        expected = tf.math.log(tf.cast(tf.size(targets), tf.float32)) + tf.gather(
            self._log_share, targets
        )
        return Negatives(targets, expected, expected)

    def _sample(self, targets: tf.Tensor, generator: tf.random.Generator) -> Negatives:
        kind = "uniform" if self._kind == "uniform" else "log_uniform"
        uniform = generator.uniform([self._num_sampled])  # [0, 1)
        if kind == "uniform":
            position = uniform * float(self._num_seen)
        else:
            # Inverse of the log-uniform distribution function
            # F(i) = log(i + 1) / log(S + 1) over ranks 1..S.
            position = tf.exp(uniform * math.log(self._num_seen + 1)) - 1.0
        items = tf.minimum(tf.cast(position, tf.int32), self._num_seen - 1) + 1
        return Negatives(
            items, self._log_sampled_count(items, kind), self._log_sampled_count(targets, kind)
        )

    def _log_sampled_count(self, items: tf.Tensor, kind: str) -> tf.Tensor:
        """Returns log(C * P(item)); an item's index is its frequency rank."""
        log_drawn = math.log(self._num_sampled)
        if kind == "uniform":
            return tf.fill(tf.shape(items), log_drawn - math.log(self._num_seen))
        rank = tf.cast(items, tf.float32)
        # P(i) = log((i + 1) / i) / log(S + 1)
        probability = tf.math.log1p(1.0 / rank) / math.log(self._num_seen + 1)
        return tf.math.log(probability) + log_drawn
