"""MIND: Multi-Interest Network with Dynamic routing (arXiv 1904.08030)."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from contract.features import HISTORY_TIME
from model.catalogue import Catalogue
from model.config import ModelConfig, TrainingConfig, check_fits
from model.network.attention import LabelAwareAttention
from model.network.capsule import interest_mask
from model.network.dropout import dropout_factors
from model.network.extractors import make_extractor
from model.network.item_encoder import EMBEDDING_INIT_STD, ItemEncoder
from model.network.prefix_interests import PrefixInterests
from model.network.repeat_score import RepeatScore
from model.network.time_gap import NUM_BUCKETS, step_buckets, time_gap_buckets
from model.training.input_pipeline import OWN, PAIRS
from model.training.losses import sampled_softmax_loss
from model.training.sampling import NegativeSampler


class MindModel(tfrs.Model):
    """User and item towers with the training loss.

    The user tower turns a person's history into up to K interest vectors, and the item
    tower gives each item one vector. An item's score is its largest dot product with an
    active interest, to which ``repeat`` may add for a person's own items.

    The base class provides Keras' ``compile`` and ``fit`` on top of `compute_loss`. The
    pipeline trains with `model.training.loop.fit`, which can resume a training.

    Example:
      One person has seen all three items of a catalogue. Three behaviours give one
      interest, so one of K = 4 is active:

      >>> catalogue = Catalogue(np.array([0, 9, 5, 1]))
      >>> config = ModelConfig(embedding_dim=8, history_length=5)
      >>> mind = MindModel(config, TrainingConfig(num_negatives=2), catalogue)
      >>> interests, mask = mind.user_interests(tf.constant([[1, 2, 3, 0, 0]]), profile={})
      >>> interests.shape
      TensorShape([1, 4, 8])
      >>> mask.numpy().tolist()
      [[True, False, False, False]]

    Args:
      model_config: The network.
      training_config: The loss; its ``seed`` seeds weights and random draws.
      catalogue: Items, train counts and side features.
      profile_vocab_sizes: Per profile feature, its largest index + 1. Index 0
        (unknown) has an embedding like any other.

    Raises:
      ValueError: if the two configurations do not fit together.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        training_config: TrainingConfig,
        catalogue: Catalogue,
        profile_vocab_sizes: Mapping[str, int] | None = None,
    ):
        super().__init__(name="mind")
        check_fits(model_config, training_config)
        self.model_config = model_config
        self.training_config = training_config
        seed = training_config.seed
        dim = model_config.embedding_dim
        profile_sizes = dict(profile_vocab_sizes or {}) if model_config.profile_features else {}
        self._adaptive = model_config.adaptive_interests and model_config.extractor != "average"
        self.num_interests = (
            1 if model_config.extractor == "average" else model_config.num_interests
        )
        # bfloat16 has the range of float32, so that no loss scaling is needed.
        policy = tf.keras.mixed_precision.Policy(
            "mixed_bfloat16" if training_config.mixed_precision else "float32"
        )
        self.item_encoder = ItemEncoder(
            catalogue,
            dim,
            side_features=model_config.side_features,
            id_dropout=model_config.item_id_dropout,
            seed=seed,
            dtype=policy,
        )
        if model_config.recency_position and not model_config.encoder:
            self._positions = self.add_weight(
                name="recency_position",
                shape=[model_config.history_length, dim],
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=EMBEDDING_INIT_STD, seed=seed + 100
                ),
            )
            # Log of the factor for each distance, which starts as 1 / sqrt(1 + distance).
            self._recency_weight = self.add_weight(
                name="recency_weight",
                shape=[model_config.history_length],
                initializer=tf.keras.initializers.Constant(
                    -0.5 * np.log1p(np.arange(model_config.history_length))
                ),
            )
        if model_config.time_gap:
            self._time_gaps = self.add_weight(
                name="time_gap",
                shape=[NUM_BUCKETS, dim],
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=EMBEDDING_INIT_STD, seed=seed + 101
                ),
            )
            if not model_config.encoder:
                # Log of the factor that weighs each gap.
                self._time_gap_weight = self.add_weight(
                    name="time_gap_weight", shape=[NUM_BUCKETS], initializer="zeros"
                )
        if model_config.encoder:
            self.extractor = PrefixInterests(model_config, seed, policy)
        else:
            self.extractor = make_extractor(model_config, seed, policy)
        self._profile_tables = {
            name: self.add_weight(
                name=f"profile_{name}",
                shape=[size, dim],
                initializer=tf.keras.initializers.RandomNormal(
                    stddev=EMBEDDING_INIT_STD, seed=seed + i
                ),
            )
            for i, (name, size) in enumerate(sorted(profile_sizes.items()), start=200)
        }
        widths = [*model_config.hidden_units, dim]
        self._projection = [
            tf.keras.layers.Dense(
                width,
                activation="relu" if i < len(widths) - 1 else None,
                kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed + 300 + i),
                name=f"projection_{i}",
                dtype=policy,
            )
            for i, width in enumerate(widths)
        ]
        self._attention = LabelAwareAttention(
            self.num_interests,
            training_config.attention_power,
            adaptive=self._adaptive,
            # The attention sees the same scores as the softmax of the loss.
            temperature=training_config.temperature,
            name="label_aware_attention",
        )
        self.repeat: RepeatScore | None = None
        if model_config.repeat:
            temperature, seen = training_config.temperature, catalogue.num_seen
            self.repeat = RepeatScore(model_config.repeat, dim, temperature, seen, seed + 400)
        self._sampler = NegativeSampler(training_config, catalogue)
        # Its state is part of the checkpoint, see CapsuleLayer.
        self._generator = tf.random.Generator.from_seed(seed)
        self.compiled_user_interests = tf.function(
            self.user_interests, autograph=False, reduce_retracing=True
        )
        # Creates the weights of all layers, so that a checkpoint can be restored.
        self.user_interests(
            tf.zeros([1, model_config.history_length], tf.int32),
            {name: tf.zeros([1], tf.int32) for name in profile_sizes},
            tf.zeros([1, model_config.history_length], tf.int64) if model_config.time_gap else None,
        )

    @property
    def embedding_tables(self) -> dict[str, tf.Variable]:
        """Embedding tables with one row per token of a vocabulary; row 0 is padding or unknown."""
        return {**self.item_encoder.tables, **self._profile_tables}

    @property
    def profile_features(self) -> list[str]:
        """Names of the profile features that `user_interests` reads."""
        return sorted(self._profile_tables)

    def user_interests(
        self,
        history: tf.Tensor,
        profile: Mapping[str, tf.Tensor],
        times: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes a person's interest vectors.

        Args:
          history: int32 [B, T], item indices, oldest first, 0 only at the end;
            T <= history_length.
          profile: int32 [B] per profile feature.
          times: int64 [B, T], seconds of the history, 0 where unknown; only with
            ``time_gap``.
          training: Whether to apply dropout and draw new routing logits.

        Returns:
          The interests, float32 [B, K, d], and the mask of active interests, bool [B, K].

        Raises:
          ValueError: if the model has ``time_gap`` and no times are given.
        """
        length = _length(history)
        capsules = self._capsules(history, length, times, training)
        mask = interest_mask(length, self.num_interests, self._adaptive)
        return self._project(capsules, profile), mask

    def _capsules(
        self,
        history: tf.Tensor,
        length: tf.Tensor,
        times: tf.Tensor | None,
        training: bool,
        every_prefix: bool = False,
    ) -> tf.Tensor:
        """Computes interests before the profile and the ReLU layers are applied.

        Returns:
          [B, K, d], or [B, T, K, d] with ``every_prefix``, which needs an encoder.
        """
        behaviors = self.item_encoder(history, training=training)  # [B, T, d]
        if self.model_config.recency_position and not self.model_config.encoder:
            # 0 for the newest behaviour.
            distance = length[:, tf.newaxis] - 1 - tf.range(tf.shape(history)[1])[tf.newaxis, :]
            distance = tf.maximum(distance, 0)  # [B, T]
            behaviors = _marked(behaviors, distance, self._positions, self._recency_weight)
        if self.model_config.time_gap:
            if times is None:
                raise ValueError(
                    "A model with time_gap reads the times of the history, int64 [B, T]; received "
                    "none. Pass them, 0 where they are unknown."
                )
            if training and self.model_config.time_dropout:
                draws = self._generator.uniform([tf.shape(times)[0], 1])
                times = tf.where(draws >= self.model_config.time_dropout, times, 0)
            if self.model_config.encoder:
                marks = tf.gather(self._time_gaps, step_buckets(times))  # [B, T, d]
                behaviors += tf.cast(marks, behaviors.dtype)
            else:
                bucket = time_gap_buckets(times)  # [B, T]
                behaviors = _marked(behaviors, bucket, self._time_gaps, self._time_gap_weight)
        if training and self.model_config.dropout:
            factors = dropout_factors(
                tf.shape(behaviors), self.model_config.dropout, self._generator
            )
            behaviors *= tf.cast(factors, behaviors.dtype)
        if self.model_config.encoder:
            last = None if every_prefix else tf.maximum(length - 1, 0)
            return self.extractor(behaviors, last=last, training=training)
        return self.extractor([behaviors, length[:, tf.newaxis]], training=training)

    def _project(self, capsules: tf.Tensor, profile: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Turns capsules [B, k, d] into interests, float32 [B, k, d]."""
        hidden = capsules
        if self._profile_tables:
            embedded = [
                tf.gather(self._profile_tables[n], profile[n]) for n in self._profile_tables
            ]
            person = tf.cast(tf.concat(embedded, axis=-1), capsules.dtype)  # [B, P d]
            repeated = tf.repeat(person[:, tf.newaxis, :], capsules.shape[1], axis=1)
            hidden = tf.concat([capsules, repeated], axis=-1)
        for layer in self._projection:
            hidden = layer(hidden)
        interests = hidden + capsules if self.model_config.residual else hidden
        interests = tf.cast(interests, tf.float32)
        return (
            tf.math.l2_normalize(interests, axis=-1) if self.model_config.normalize else interests
        )

    def item_vectors(self, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Final vectors of items [...] given by their indices, float32 [..., d]."""
        return self._final(self.item_encoder(items, training=training))

    def described_item_vectors(
        self, items: tf.Tensor, side_values: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Final vectors of items with the given side features, see ``ItemEncoder.pool``."""
        return self._final(self.item_encoder.pool(items, side_values))

    def item_embeddings(self) -> tf.Tensor:
        """Final vectors of all items, float32 [N + 1, d]; row 0 is zero."""
        return self._final(self.item_encoder.encode_all())

    def _final(self, vectors: tf.Tensor) -> tf.Tensor:
        vectors = tf.cast(vectors, tf.float32)
        return tf.math.l2_normalize(vectors, axis=-1) if self.model_config.normalize else vectors

    def compute_loss(self, inputs: Mapping[str, Any], training: bool = False) -> tf.Tensor:
        """Computes the mean sampled-softmax loss of a batch.

        Args:
          inputs: ``history``, int32 [B, T]; ``target``, int32 [B], from 1 to N, or with an
            encoder int32 [B, T], the item after each behaviour (0: nothing to learn); and
            ``profile``, int32 [B] per feature. With ``time_gap`` also ``history_time``,
            int64 [B, T]. With ``repeat`` also ``own``, own items [B, 1 + n]. If replicas
            with different numbers of targets share the batch, also ``pairs``, float32 [B],
            the number of targets in the whole batch.
          training: See `user_interests`.

        Returns:
          float32 scalar.
        """
        config = self.training_config
        targets, counted = inputs["target"], None
        if self.model_config.encoder:
            # Prefixes with nothing to learn stay in the batch, because workers that share a
            # batch need gradients of equal shape.
            counted = tf.cast(tf.reshape(targets > 0, [-1]), tf.float32)
            targets = tf.maximum(tf.reshape(targets, [-1]), 1)  # [P]
        target_vectors = self.item_vectors(targets, training)  # [P, d]
        people = self._people(inputs, training)
        if config.negative_scores == "best":
            interests = self._project(people.capsules, people.profile)
            mask = interest_mask(people.length, self.num_interests, self._adaptive)
            # The first interest is always active; a copy of it changes no maximum.
            user_vectors = tf.where(mask[:, :, tf.newaxis], interests, interests[:, :1])
        else:
            user_vectors = self._attended(people, target_vectors)
        negatives = self._sampler.draw(targets, self._generator)
        vectors = functools.partial(self.item_vectors, training=training)
        own = self.repeat.candidates(inputs[OWN], user_vectors, vectors) if self.repeat else None
        losses = sampled_softmax_loss(
            user_vectors,
            target_vectors,
            targets,
            self.item_vectors(negatives.items, training),
            negatives,
            config.temperature,
            config.logq_correction,
            config.hard_negatives,
            own,
        )
        if counted is None:
            return tf.reduce_mean(losses)
        total = tf.reduce_sum(losses * counted)
        if PAIRS not in inputs:
            return total / tf.reduce_sum(counted)
        # The step averages over the replicas; this scale makes the result the batch's mean.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return total * replicas / inputs[PAIRS][0]

    def _people(self, inputs: Mapping[str, Any], training: bool) -> "_People":
        """Returns the histories that precede the targets; with an encoder, all prefixes."""
        history, profile = inputs["history"], inputs["profile"]
        length, times = _length(history), inputs.get(HISTORY_TIME)
        if not self.model_config.encoder:
            return _People(self._capsules(history, length, times, training), length, profile)
        capsules = self._capsules(history, length, times, training, every_prefix=True)
        rows, steps = tf.shape(history)[0], tf.shape(history)[1]
        return _People(
            tf.reshape(capsules, [rows * steps, *capsules.shape[2:]]),
            tf.tile(tf.range(1, steps + 1), [rows]),
            {name: tf.repeat(values, steps) for name, values in profile.items()},
        )

    def _attended(self, people: "_People", target_vectors: tf.Tensor) -> tf.Tensor:
        """Computes user vectors [P, d] by label-aware attention to the targets."""
        capsules, profile = people.capsules, people.profile
        is_hard = math.isinf(self.training_config.attention_power)
        # The hard choice passes a gradient to the chosen interest only. It is cheaper to
        # choose without gradients and to compute the chosen interest again with them.
        interests = self._project(tf.stop_gradient(capsules) if is_hard else capsules, profile)
        mixed, weights = self._attention(
            [interests, target_vectors[:, tf.newaxis, :], people.length[:, tf.newaxis]],
            return_attention_weights=True,
        )
        if not is_hard:
            return mixed
        best = tf.argmax(weights, axis=1)
        chosen = tf.gather(capsules, best, batch_dims=1)[:, tf.newaxis, :]  # [P, 1, d]
        return self._project(chosen, profile)[:, 0, :]


class _People(NamedTuple):
    """Histories whose next items are known.

    Attributes:
      capsules: float [P, K, d].
      length: int32 [P], number of behaviours in each history.
      profile: int32 [P] by feature.
    """

    capsules: tf.Tensor
    length: tf.Tensor
    profile: Mapping[str, tf.Tensor]


def _marked(
    behaviors: tf.Tensor, index: tf.Tensor, embeddings: tf.Tensor, log_weights: tf.Tensor
) -> tf.Tensor:
    """Adds an embedding to each behaviour [B, T, d] and weighs it, both by ``index`` [B, T]."""
    marks = tf.cast(tf.gather(embeddings, index), behaviors.dtype)  # [B, T, d]
    weights = tf.cast(tf.exp(tf.gather(log_weights, index)), behaviors.dtype)  # [B, T]
    return (behaviors + marks) * weights[:, :, tf.newaxis]


def _length(history: tf.Tensor) -> tf.Tensor:
    """Number of behaviours of each person, int32 [B]."""
    return tf.reduce_sum(tf.cast(history > 0, tf.int32), axis=1)
