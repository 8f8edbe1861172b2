"""How much likelier a person is to have an item again than the interests alone say."""

from collections.abc import Callable

import tensorflow as tf

from model.config import RepeatConfig
from model.network.own_items import OwnItems, own_items
from model.ranking import OwnBonus
from model.training.losses import OwnLogits
from model.training.own_candidates import log_expected_count

ItemVectors = Callable[[tf.Tensor], tf.Tensor]
_NUM_FACTS = 5


class RepeatScore(tf.keras.layers.Layer):
    """The logit of a second entry that each item of a person's own has in the catalogue.

    An item stands in the softmax with the logit ``s`` of the interests. One that the person has
    had stands there a second time, with ``s + x``; together they weigh
    ``exp(s) + exp(s + x) = exp(s + softplus(x))``. The layer computes ``x`` from how often and how
    lately the person has had the item, from its usual interval with this person, and from the
    vector of the item, by which it can learn that milk is bought again and a ladder is not.

    Args:
      config: The repeat path.
      dim: d, the size of item vectors.
      temperature: Divides the scores before the softmax.
      seed: Seeds the weights.
    """

    def __init__(self, config: RepeatConfig, dim: int, temperature: float, seed: int):
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
            1, kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed + 1), name="repeat"
        )
        self._hidden.build([None, None, _NUM_FACTS + dim])
        self._logit.build([None, None, config.hidden_units])

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

    def bonus(self, history: tf.Tensor, item_vectors: ItemVectors) -> OwnBonus:
        """What the scores of people's own items gain over those of the interests.

        Args:
          history: int32 [B, T], all that is known of people, oldest first, 0 only at the end;
            any T.
          item_vectors: Gives the vectors of item indices.

        Returns:
          The temperature times ``softplus(x)`` of own items, [B, T].
        """
        own = own_items(history, self._limit)
        gain = tf.nn.softplus(self((own, item_vectors(own.items)))) * self._temperature
        return OwnBonus(own.items, tf.where(own.items > 0, gain, 0.0))

    def candidates(
        self, own: OwnItems, user_vectors: tf.Tensor, item_vectors: ItemVectors
    ) -> OwnLogits:
        """The second entries for the loss.

        Args:
          own: See `own_candidates`, [B, 1 + n].
          user_vectors: float32 [B, d], or [B, K, d] to score each item by its best vector.
          item_vectors: Gives the vectors of item indices.
        """
        vectors = item_vectors(own.items)  # [B, 1 + n, d]
        if user_vectors.shape.rank == 2:
            user_vectors = user_vectors[:, tf.newaxis, :]
        scores = tf.reduce_max(tf.matmul(vectors, user_vectors, transpose_b=True), axis=2)
        logits = scores / self._temperature + self((own, vectors))
        return OwnLogits(logits, own.items > 0, log_expected_count(own))


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
