"""Arrays of the categories and numeric values of items."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Entry of the table that means "no further category".
NO_CATEGORY = 0


class CategoryTable(NamedTuple):
    """The categories of each item.

    Attributes:
      names: The distinct names, object (bytes) [V]; the most frequent come first.
      items: int32 [N, F]. Row i holds the categories of item i; an entry c stands for
        ``names[c - 1]``, and 0 is padding.
    """

    names: np.ndarray
    items: np.ndarray


def category_table(values: Sequence[Sequence[bytes]]) -> CategoryTable:
    """Builds a table of the items' categories.

    Args:
      values: The names of each item's categories, [N]; none, one or several.

    Returns:
      The table; equally frequent names are in byte order.
    """
    distinct = [sorted(set(names)) for names in values]
    counts = collections.Counter(name for names in distinct for name in names)
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    number = {name: index for index, name in enumerate(ordered, start=1)}
    width = max((len(names) for names in distinct), default=0)
    table = np.full([len(distinct), max(width, 1)], NO_CATEGORY, np.int32)
    for row, names in enumerate(distinct):
        table[row, : len(names)] = [number[name] for name in names]
    return CategoryTable(np.array(ordered, dtype=object), table)


def number_table(values: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns float32 [N, F]: the distinct numbers of each item, ascending, padded with NaN.

    Args:
      values: The numbers of each item, [N]; none, one or several.
    """
    distinct = [np.unique(np.asarray(numbers, np.float32)) for numbers in values]
    width = max((len(numbers) for numbers in distinct), default=0)
    table = np.full([len(distinct), max(width, 1)], np.nan, np.float32)
    for row, numbers in enumerate(distinct):
        table[row, : len(numbers)] = numbers
    return table
