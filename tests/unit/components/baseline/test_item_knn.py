"""Item-kNN against a dense NumPy oracle."""

import numpy as np
import pytest

from components.baseline import item_knn


def _sequences(seed, users=40, items=15):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, items + 1, rng.integers(1, 9)) for _ in range(users)]


@pytest.mark.parametrize("num_neighbours", [3, 50])
def test_matches_dense_cosine(num_neighbours, monkeypatch):
    monkeypatch.setattr(item_knn, "_BLOCK_ROWS", 4)  # several blocks
    num_items = 15
    sequences = _sequences(1)
    matrix = np.zeros((len(sequences), num_items + 1))
    for row, sequence in enumerate(sequences):
        matrix[row, sequence] = 1.0  # a repeated item counts once
    norms = np.maximum(1e-12, np.linalg.norm(matrix, axis=0))
    expected = (matrix.T @ matrix) / np.outer(norms, norms)
    np.fill_diagonal(expected, 0.0)

    found = item_knn.nearest_items(
        np.concatenate(sequences),
        np.cumsum([0, *map(len, sequences)]),
        num_items,
        num_neighbours,
    )

    for item in range(num_items + 1):
        best = np.sort(expected[item])[::-1][:num_neighbours]
        row = np.sort(found.similarities[item])[::-1]
        np.testing.assert_allclose(row[: len(best)], best, atol=1e-6)
        for other, similarity in zip(found.items[item], found.similarities[item], strict=True):
            if other:
                assert similarity == pytest.approx(expected[item, other], abs=1e-6)
