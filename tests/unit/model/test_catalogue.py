import numpy as np
import pytest

from model.catalogue import Catalogue


def test_counts():
    catalogue = Catalogue(np.array([0, 4, 4, 1, 0]))
    assert (catalogue.num_items, catalogue.num_seen) == (4, 3)


@pytest.mark.parametrize(
    ("counts", "features", "sizes", "message"),
    [
        ([1, 2], {}, {}, "row 0"),
        ([0], {}, {}, "N >= 1"),
        ([0, 1, 2], {}, {}, "must not increase"),
        ([0, 2, 1], {"a": np.zeros((3, 1))}, {}, "same features"),
        ([0, 2, 1], {"a": np.zeros((2, 1))}, {"a": 1}, r"must be \[3, F\]"),
        ([0, 2, 1], {"a": np.array([[0], [1], [5]])}, {"a": 5}, "from 0 to 5"),
    ],
)
def test_contradictions_are_refused(counts, features, sizes, message):
    with pytest.raises(ValueError, match=message):
        Catalogue(np.array(counts), features, sizes)
