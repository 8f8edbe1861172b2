"""Item-to-item neighbours by the cosine similarity of the sequences that contain the items."""

from typing import NamedTuple

import numpy as np
import scipy.sparse

NUM_NEIGHBOURS = 200
_BLOCK_ROWS = 1024


class Neighbours(NamedTuple):
    """The nearest items of each item.

    Attributes:
      items: int32 [N + 1, num_neighbours], the neighbours by item index, in no particular order;
        0 is padding, and row 0 is for the padding index.
      similarities: float32 [N + 1, num_neighbours], their similarities; 0 for padding.
    """

    items: np.ndarray
    similarities: np.ndarray


def nearest_items(
    values: np.ndarray, row_splits: np.ndarray, num_items: int, num_neighbours: int = NUM_NEIGHBOURS
) -> Neighbours:
    """Finds the nearest neighbours of every item.

    The similarity of items i and j is ``|U_i & U_j| / sqrt(|U_i| |U_j|)``, where U_i is the set of
    the sequences that contain i.

    Args:
      values: Item indices (1..N) of all sequences, concatenated.
      row_splits: Where sequences begin and end in ``values``, [S + 1].
      num_items: Number of items, N.
      num_neighbours: Largest number of neighbours kept per item.
    """
    rows = np.repeat(np.arange(len(row_splits) - 1), np.diff(row_splits))
    interactions = scipy.sparse.csr_matrix(
        (np.ones(len(values), np.float32), (rows, values)),
        shape=(len(row_splits) - 1, num_items + 1),
    )
    interactions.sum_duplicates()
    interactions.data[:] = 1.0
    norms = np.sqrt(np.maximum(1.0, np.asarray(interactions.sum(axis=0)).ravel()))
    normalised = (interactions @ scipy.sparse.diags(1.0 / norms)).tocsc().astype(np.float32)
    transposed = normalised.T.tocsr()
    items = np.zeros((num_items + 1, num_neighbours), np.int32)
    similarities = np.zeros((num_items + 1, num_neighbours), np.float32)
    for start in range(0, num_items + 1, _BLOCK_ROWS):
        block = (transposed[start : start + _BLOCK_ROWS] @ normalised).tocsr()
        for offset in range(block.shape[0]):
            item = start + offset
            columns = block.indices[block.indptr[offset] : block.indptr[offset + 1]]
            values_ = block.data[block.indptr[offset] : block.indptr[offset + 1]]
            other = columns != item
            columns, values_ = columns[other], values_[other]
            if len(columns) > num_neighbours:
                nearest = np.argpartition(-values_, num_neighbours - 1)[:num_neighbours]
                columns, values_ = columns[nearest], values_[nearest]
            items[item, : len(columns)] = columns
            similarities[item, : len(columns)] = values_
    return Neighbours(items, similarities)
