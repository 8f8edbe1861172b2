"""A refresh keeps up the values that requests filter by."""

import numpy as np
import tensorflow as tf

from item_refresh.catalogue import refresh_catalogue
from item_refresh.items_file import Items
from tests.synthetic_tower import Tower


class _Encoding(Tower):
    signatures = {}  # noqa: RUF012

    def encode_items(self, examples):
        return tf.ones([tf.size(examples), 2])


def _free(variable):
    """Of free size, as in an export."""
    return tf.Variable(variable, shape=[None] * len(variable.shape), trainable=False)


def test_values_follow_the_file_and_the_rest_stays():
    brands, prices = [["x"], ["y"], []], [[1.0], [2.0, 3.0], []]
    tower = _Encoding(
        ["a", "b", "c"], np.ones([3, 2]), [3, 2, 1], filters={"brand": brands, "price": prices}
    )
    for name in ("item_ids", "item_titles", "item_vectors", "train_counts"):
        setattr(tower, name, _free(getattr(tower, name)))
    tower.filter_names = {"brand": _free(tower.filter_names["brand"])}
    tower.filter_values = {name: _free(v) for name, v in tower.filter_values.items()}
    items = Items(
        ids=[b"b", b"a", b"new"],
        titles=[b""] * 3,
        categories=[[]] * 3,
        examples=[b""] * 3,
        features={"brand": [[b"z", b"x"], [b"x"], [b"x"]], "price": [[2.0, 3.0], [1.5], []]},
    )
    changes = refresh_catalogue(tower, items, remove_absent=False)
    # "a" has another price and "b" other brands; "c" is not in the file.
    assert (changes.added, changes.changed, changes.unchanged) == (1, 2, 1)
    names = tower.filter_names["brand"].numpy().tolist()
    numbered = tower.filter_values["brand"].numpy()
    found = [sorted(names[c - 1] for c in row if c) for row in numbered]
    assert found == [[b"x"], [b"x", b"z"], [], [b"x"]]
    np.testing.assert_array_equal(
        tower.filter_values["price"].numpy(),
        [[1.5, np.nan], [2.0, 3.0], [np.nan, np.nan], [np.nan, np.nan]],
    )
