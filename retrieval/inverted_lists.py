"""Inverted lists: for each value of a feature, the items that have it.

They are built once, together with the index.
"""

from typing import NamedTuple

import numpy as np

from model.categories import NO_CATEGORY


class InvertedLists(NamedTuple):
    """The lists of all values, concatenated.

    Attributes:
      offsets: int32 [V + 2]; the list of value v is ``positions[offsets[v]:offsets[v + 1]]``.
      positions: int32 [P], ascending within each list.
    """

    offsets: np.ndarray
    positions: np.ndarray


def inverted_lists(values: np.ndarray, num_values: int) -> InvertedLists:
    """Lists the items that have each value.

    Args:
      values: int32 [R, F], the distinct values of each item, from 1 to ``num_values``,
        padded with ``NO_CATEGORY``.
      num_values: Number of values, V.

    Returns:
      The lists. The list of ``NO_CATEGORY`` contains the items without any value.
    """
    items, slots = np.nonzero(values != NO_CATEGORY)
    without = np.flatnonzero(~np.any(values != NO_CATEGORY, axis=1))
    positions = np.concatenate([without, items]).astype(np.int32)
    of = np.concatenate([np.full(len(without), NO_CATEGORY, values.dtype), values[items, slots]])
    order = np.argsort(of, kind="stable")
    sizes = np.bincount(of, minlength=num_values + 1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return InvertedLists(offsets, positions[order])
