"""A condition of every request: it leaves out pushed items that were changed or removed since."""

import numpy as np
import tensorflow as tf

from retrieval.live_items import LiveItems


class AsPushed:
    """Accepts the positions whose items are as they were pushed; an ``ItemFilter``.

    Its condition carries no information except the number of rows. The filter also accepts the
    positions of slots.
    """

    def __init__(self, live: LiveItems) -> None:
        """Makes the filter; ``live`` holds the changes since the push."""
        self._live = live

    @staticmethod
    def condition(batch: tf.Tensor) -> tf.Tensor:
        """Returns the condition, int32 [B, 1], for ``batch`` rows, int32 []."""
        return tf.zeros([batch, 1], tf.int32)

    def of(self, positions: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``: bool [..., 1]."""
        return (self._live.current(positions) == positions)[..., tf.newaxis]

    def block(self, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        return self._live.is_as_pushed(start, size)[0, :, tf.newaxis]

    def accepts(self, condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        accepted = values[..., 0]  # [B, M] or [M]
        return tf.broadcast_to(accepted, [tf.shape(condition)[0], tf.shape(accepted)[-1]])

    def is_used(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``."""
        return tf.fill([tf.shape(condition)[0]], self._live.num_replaced > 0)

    def num_listed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; infinite, because this filter has no lists."""
        return tf.fill([tf.shape(condition)[0]], np.float32(np.inf))

    def lists_as_allowed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; False, because this filter has no lists."""
        return tf.fill([tf.shape(condition)[0]], False)

    def listed(self, condition: tf.Tensor) -> tf.Tensor:
        """See ``ItemFilter``; never used, because this filter has no lists."""
        del condition
        return tf.zeros([0], tf.int32)
