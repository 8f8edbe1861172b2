"""Replacements for ``LiveItems`` in versions whose catalogue cannot be changed after the push."""

from collections.abc import Callable
from typing import Final

import tensorflow as tf

from retrieval.live_items import Page
from retrieval.search import Candidates


class FixedItems:
    """A catalogue in which every item is as it was pushed; see ``LiveItems`` for the methods."""

    num_leaves: Final = 0
    num_replaced: Final = 0

    def __init__(self, num_pushed: int) -> None:
        """See ``LiveItems``."""
        self.num_pushed = num_pushed

    def positions_of(self, ids: tf.Tensor) -> tf.Tensor:
        """See ``LiveItems``."""
        return -tf.ones_like(ids, tf.int32)

    def current(self, positions: tf.Tensor) -> tf.Tensor:
        """See ``LiveItems``."""
        return positions

    def ids_at(self, positions: tf.Tensor, pushed: tf.Tensor) -> tf.Tensor:
        """See ``LiveItems``."""
        del positions
        return pushed

    titles_at = vectors_at = ids_at

    def page(self, offset: tf.Tensor, limit: tf.Tensor) -> Page:
        """See ``LiveItems``."""
        del offset, limit
        strings = tf.zeros([0], tf.string)
        return Page(strings, strings, tf.zeros([0], tf.int64))

    def candidates(
        self,
        interests: tf.Tensor,
        mask: tf.Tensor,
        depth: tf.Tensor,
        allowed: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> Candidates | None:
        """See ``LiveItems``."""
        del interests, mask, depth, allowed
        return None

    def popular(
        self,
        batch: tf.Tensor,
        depth: tf.Tensor,
        allowed: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> Candidates | None:
        """See ``LiveItems``."""
        del batch, depth, allowed
        return None
