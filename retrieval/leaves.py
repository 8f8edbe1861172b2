"""The partitions of an index, which also order the items that are added after the push."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from retrieval.scann_search import ScannSearch
from retrieval.search import CatalogueSearch

# Limits the memory for sorted copies of the vectors.
_ITEMS_AT_ONCE = 1 << 20


class Leaves(NamedTuple):
    """The partitions of an index.

    Attributes:
      centroids: float32 [C, d], the mean vector of each partition that is not empty.
      to_search: int32 [], the number of partitions searched for each interest.
    """

    centroids: np.ndarray
    to_search: tf.Variable


def index_leaves(search: CatalogueSearch) -> Leaves | None:
    """Returns the partitions of ``search``; None if it has none."""
    if not isinstance(search, ScannSearch) or not search.num_leaves:
        return None
    vectors, leaf = search.vectors.numpy(), search.leaf_of_items()
    sizes = np.bincount(leaf, minlength=search.num_leaves)
    sums = np.zeros([len(sizes), vectors.shape[1]], np.float32)
    for start in range(0, len(leaf), _ITEMS_AT_ONCE):
        part = leaf[start : start + _ITEMS_AT_ONCE]
        order = np.argsort(part, kind="stable")
        leaves, starts = np.unique(part[order], return_index=True)
        sums[leaves] += np.add.reduceat(vectors[start + order], starts, axis=0)
    is_used = sizes > 0
    return Leaves(
        sums[is_used] / sizes[is_used, np.newaxis].astype(np.float32), search.leaves_to_search
    )
