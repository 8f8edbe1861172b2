"""Searches only the pushed items that have not been changed or removed since the push."""

import numpy as np
import tensorflow as tf

from retrieval.fixed_items import FixedItems
from retrieval.live_items import LiveItems
from retrieval.search import Candidates, CatalogueSearch

# Once items have been replaced or removed, an approximate search fetches this many times the number
# of candidates that would be needed if those items were spread evenly. The additional candidates
# cost little, because an index rescores more candidates than it returns.
_MARGIN = 2


class PushedSearch:
    """Leaves out the items that have changed since the push; a ``CatalogueSearch``.

    Until something changes, its results are exactly those of the search that it wraps.
    """

    def __init__(self, search: CatalogueSearch, live: LiveItems) -> None:
        """Wraps a search.

        Args:
          search: Searches all items that were pushed.
          live: The changes since the push.
        """
        self.vectors = search.vectors
        self.is_exact = search.is_exact
        self._search = search
        self._live = live

    def num_items(self) -> tf.Tensor:
        """See ``CatalogueSearch``."""
        return self._search.num_items() - self._live.num_replaced

    def exact(self) -> "PushedSearch":
        """See ``CatalogueSearch``."""
        return PushedSearch(self._search.exact(), self._live)

    def describe(self) -> dict[str, int | float | str]:
        """See ``Search``."""
        return self._search.describe()

    def candidates(
        self, interests: tf.Tensor, mask: tf.Tensor, depth: tf.Tensor, k: tf.Tensor
    ) -> Candidates:
        """See ``Search``."""
        if self.is_exact:
            return self._search.candidates(  # type: ignore[call-arg]
                interests, mask, depth, k, self._live.is_as_pushed
            )
        num_pushed = self._search.num_items()
        share = tf.cast(num_pushed, tf.float32) / tf.cast(
            tf.maximum(self.num_items(), 1), tf.float32
        )
        deeper = tf.cast(tf.math.ceil(_MARGIN * tf.cast(depth, tf.float32) * share), tf.int32)
        wanted = tf.where(self._live.num_replaced > 0, deeper, depth)
        found = self._search.candidates(interests, mask, tf.minimum(wanted, num_pushed), k)
        is_there = self._live.current(found.positions) == found.positions
        return Candidates(
            tf.where(is_there, found.positions, -1), tf.where(is_there, found.scores, -np.inf)
        )


def without_changed(search: CatalogueSearch, live: LiveItems | FixedItems) -> CatalogueSearch:
    """Returns a search of the pushed items that have not changed since the push."""
    return search if isinstance(live, FixedItems) else PushedSearch(search, live)
