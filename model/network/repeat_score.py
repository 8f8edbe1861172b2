"""How much likelier a person is to have an item again than the interests alone say."""

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
    """The logit by which an item that a person has had stands in the softmax.

    All other items stand there with the logit ``s`` of the interests, an item of the person's own
    with ``a s + x``. The layer computes ``x`` from how often and how lately the person has had the
    item, from its usual interval with this person, and from the vector of the item, by which it
    can learn that milk is bought again and a ladder is not. ``a`` is one learned number, 0 at the
    start: how much the interests say of such items.

    Served is ``max(s, a s + x + c)``. People that the model has not been trained with have their
    new items foretold far less well than the softmax believes, and their own items as well as it
    believes. ``c`` makes up for that; ``model.training.validation.calibrate`` chooses it.

    Args:
      config: The repeat path.
      dim: d, the size of item vectors.
      temperature: Divides the scores before the softmax.
      num_items: Items that were seen in training.
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
            # A long history weighs as much as all other items at the start. Far below that, the
            # interests explain what is repeated before this layer does, which then learns nothing.
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
        """Computes the logits.

        Args:
          inputs: Own items [B, D], and their vectors, float32 [B, D, d].

        Returns:
          x, float32 [B, D]; it means nothing where there is no item.
        """
        own, vectors = inputs
        facts = tf.stack(repeat_facts(own), axis=-1)  # [B, D, 5]
        return self._logit(self._hidden(tf.concat([facts, vectors], axis=-1)))[..., 0]

    def bonus(
        self, history: tf.Tensor, interests: tf.Tensor, mask: tf.Tensor, item_vectors: ItemVectors
    ) -> OwnBonus:
        """What the scores of people's own items gain over those of the interests.

        Args:
          history: int32 [B, T], all that is known of people, oldest first, 0 only at the end;
            any T.
          interests: float32 [B, K, d].
          mask: bool [B, K], the active interests.
          item_vectors: Gives the vectors of item indices.

        Returns:
          The temperature times ``max(0, (a - 1) s + x + c)`` of own items, [B, D].
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
        """The logits of own items for the loss.

        Args:
          own: See `own_candidates`, [B, 1 + n].
          user_vectors: float32 [B, d], or [B, K, d] to score each item by its best vector.
          item_vectors: Gives the vectors of item indices.
        """
        vectors = item_vectors(own.items)  # [B, 1 + n, d]
        if user_vectors.shape.rank == 2:
            user_vectors = user_vectors[:, tf.newaxis, :]
        logits = self._trust * self._scores(vectors, user_vectors) + self((own, vectors))
        return OwnLogits(logits, own.items > 0, log_expected_count(own))

    def _scores(self, vectors: tf.Tensor, user_vectors: tf.Tensor) -> tf.Tensor:
        """The logits of the interests, float32 [B, D]: the best of user vectors [B, K, d]."""
        products = tf.matmul(vectors, user_vectors, transpose_b=True)  # [B, D, K]
        return tf.reduce_max(products, axis=2) / self._temperature


def repeat_facts(own: OwnItems) -> list[tf.Tensor]:
    """What is known of each own item, as logarithms: float32 [B, D] each.

    Returns:
      How often the person has had it, how many behaviours ago, the behaviours of the person,
      the mean interval between two times (that length if there was one time only), and how long
      ago the last time was in such intervals: 0 when it is due.
    """
    count, first, last, length = (
        tf.cast(tf.maximum(part, 1), tf.float32)
        for part in (own.count, own.first, own.last, own.length)
    )
    interval = tf.where(count > 1, (first - last) / tf.maximum(count - 1, 1.0), length)
    interval = tf.maximum(interval, 1.0)
    return [tf.math.log(part) for part in (count, last, length, interval, last / interval)]
