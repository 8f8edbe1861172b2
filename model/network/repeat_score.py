"""A score for repeats: a separate logit for each item that a person has already had."""

import math
from collections.abc import Callable

import tensorflow as tf

from model.config import RepeatConfig
from model.network.own_items import OwnItems, own_items
from model.ranking import OwnBonus
from model.training.losses import OwnLogits
from model.training.own_candidates import log_expected_count

ItemVectors = Callable[[tf.Tensor], tf.Tensor]


class RepeatScore(tf.keras.layers.Layer):
    """Computes the softmax logit of a person's own items, the items that the person has had.

    In the softmax, a new item has the logit ``s`` that the interests give it. An own item has the
    logit ``a s + x`` instead. The layer computes ``x`` from how often and how recently the person
    has had the item, from the person's usual interval between repeats of it, and from the item's
    vector. The vector lets the layer learn that people buy milk again but not a ladder. ``a`` is
    one learned number, 0 at the start, that says how far to trust the interests for own items.

    Serving scores an own item with ``max(s, a s + x + c)``. For people outside the training set,
    the softmax is far too confident about new items, but about right for own items. The offset
    ``c`` corrects this; ``model.training.validation.calibrate`` chooses it.

    Args:
      config: Settings of the repeat path.
      dim: d, the size of item vectors.
      temperature: Divides the scores before the softmax.
      num_items: Number of items seen in training.
      seed: Seeds the weights.
    """

    def __init__(
        self, config: RepeatConfig, dim: int, temperature: float, num_items: int, seed: int
    ):
        super().__init__(name="repeat_score")
        self._limit = config.history_length
        self._temperature = temperature
        self._hidden = tf.keras.layers.Dense(
            config.hidden_units,
            activation="relu",
            kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed),
            name="repeat_hidden",
        )
        self._logit = tf.keras.layers.Dense(
            1,
            kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed + 1),
            # At the start, the items of a full-length history together weigh as much as all
            # other items. With a much lower bias, the interests learn to explain the repeats
            # first, and this layer learns nothing.
            bias_initializer=tf.keras.initializers.Constant(
                math.log(max(1.0, num_items / config.history_length))
            ),
            name="repeat_logit",
        )
        self._trust = self.add_weight(name="repeat_trust", shape=[], initializer="zeros")
        self.offset = self.add_weight(
            name="repeat_offset", shape=[], initializer="zeros", trainable=False
        )
        # Creates the weights.
        nothing = tf.zeros([1, 1], tf.int32)
        self((OwnItems(*[nothing] * len(OwnItems._fields)), tf.zeros([1, 1, dim])))

    def call(self, inputs: tuple[OwnItems, tf.Tensor]) -> tf.Tensor:
        """Computes ``x``, the part of the logits that comes from repeats.

        Args:
          inputs: Own items [B, D] and their vectors, float32 [B, D, d].

        Returns:
          x, float32 [B, D]; the values at empty positions are meaningless.
        """
        own, vectors = inputs
        facts = tf.stack(repeat_facts(own), axis=-1)  # [B, D, 5]
        return self._logit(self._hidden(tf.concat([facts, vectors], axis=-1)))[..., 0]

    def bonus(
        self, history: tf.Tensor, interests: tf.Tensor, mask: tf.Tensor, item_vectors: ItemVectors
    ) -> OwnBonus:
        """Returns what to add to the scores from the interests for people's own items.

        Args:
          history: int32 [B, T], the whole known history of each person, oldest first, 0 only at
            the end. T may exceed the length that the interests are formed from.
          interests: float32 [B, K, d].
          mask: bool [B, K], the active interests.
          item_vectors: Returns the vectors of item indices.

        Returns:
          The own items and, for each, the temperature times ``max(0, (a - 1) s + x + c)``,
          [B, D].
        """
        own = own_items(history, self._limit)
        vectors = item_vectors(own.items)  # [B, D, d]
        # The first interest is always active; a copy of it changes no maximum.
        active = tf.where(mask[:, :, tf.newaxis], interests, interests[:, :1])
        logits = (self._trust - 1.0) * self._scores(vectors, active) + self((own, vectors))
        gain = tf.nn.relu(logits + self.offset) * self._temperature
        return OwnBonus(own.items, tf.where(own.items > 0, gain, 0.0))

    def candidates(
        self, own: OwnItems, user_vectors: tf.Tensor, item_vectors: ItemVectors
    ) -> OwnLogits:
        """Returns the logits ``a s + x`` of own items for the loss.

        Args:
          own: Candidates from `own_candidates`, [B, 1 + n].
          user_vectors: float32 [B, d], or [B, K, d] to score each item by the best of K vectors.
          item_vectors: Returns the vectors of item indices.
        """
        vectors = item_vectors(own.items)  # [B, 1 + n, d]
        if user_vectors.shape.rank == 2:
            user_vectors = user_vectors[:, tf.newaxis, :]
        logits = self._trust * self._scores(vectors, user_vectors) + self((own, vectors))
        return OwnLogits(logits, own.items > 0, log_expected_count(own))

    def _scores(self, vectors: tf.Tensor, user_vectors: tf.Tensor) -> tf.Tensor:
        """Logits ``s`` from the interests, float32 [B, D]: the best of user vectors [B, K, d]."""
        products = tf.matmul(vectors, user_vectors, transpose_b=True)  # [B, D, K]
        return tf.reduce_max(products, axis=2) / self._temperature


def repeat_facts(own: OwnItems) -> list[tf.Tensor]:
    """Describes each own item by five numbers, as natural logarithms, float32 [B, D] each.

    Returns:
      The logarithms of: how often the person has had the item; how many behaviours ago the last
      time was; the number of behaviours counted for the person; the mean interval between two
      occurrences, in behaviours (the number of behaviours if the item occurs once); and the time
      since the last occurrence divided by this interval, whose logarithm is 0 when the item is
      due again.
    """
    count, first, last, length = (
        tf.cast(tf.maximum(part, 1), tf.float32)
        for part in (own.count, own.first, own.last, own.length)
    )
    interval = tf.where(count > 1, (first - last) / tf.maximum(count - 1, 1.0), length)
    interval = tf.maximum(interval, 1.0)
    return [tf.math.log(part) for part in (count, last, length, interval, last / interval)]
