"""A refreshed catalogue, without an index: what goes, stays and comes back."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from item_refresh.catalogue import Changes, refresh_catalogue
from item_refresh.items_file import Items
from tests.synthetic_tower import Tower

_VECTORS = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)


class _Encoding(Tower):
    signatures = {}  # noqa: RUF012

    def encode_items(self, examples):
        """The vector that the example names."""
        return tf.gather(_VECTORS, tf.strings.to_number(examples, tf.int32))


@pytest.fixture
def tower():
    encoding = _Encoding(["a", "b", "c"], _VECTORS, [3, 2, 1])
    for name in ("item_ids", "item_titles", "item_vectors", "train_counts"):
        variable = getattr(encoding, name)
        # Of free size, as in an export.
        free = tf.Variable(variable, shape=[None] * len(variable.shape), trainable=False)
        setattr(encoding, name, free)
    return encoding


def _items(**vectors):
    """Items by id; the value says which vector."""
    size = len(vectors)
    ids = [name.encode() for name in vectors]
    examples = [str(number).encode() for number in vectors.values()]
    return Items(
        ids=ids, titles=[b""] * size, categories=[[]] * size, examples=examples, features={}
    )


def test_absent_items_stay_unless_the_file_is_the_whole_catalogue(tower):
    changes = refresh_catalogue(tower, _items(a=0, c=2), remove_absent=False)
    assert changes == Changes(0, 0, changed=0, removed=0, unchanged=3)
    np.testing.assert_array_equal(tower.item_vectors.numpy(), _VECTORS)


def test_a_title_alone_counts_as_a_change(tower):
    """The vectors stay: the title is no feature of the model."""
    named = dataclasses.replace(_items(a=0, b=1, c=2), titles=[b"", b"New title", b""])
    changes = refresh_catalogue(tower, named, remove_absent=False)
    assert changes == Changes(0, 0, changed=1, removed=0, unchanged=2)
    assert tower.item_titles.numpy().tolist() == [b"", b"New title", b""]
    np.testing.assert_array_equal(tower.item_vectors.numpy(), _VECTORS)


def test_absent_items_go_and_come_back(tower):
    changes = refresh_catalogue(tower, _items(a=0, c=2, new=1), remove_absent=True)
    assert changes == Changes(1, 0, changed=0, removed=1, unchanged=2)
    # "b" keeps its row, so that histories still know it, and has no vector to be found by.
    assert tower.item_ids.numpy().tolist() == [b"a", b"b", b"c", b"new"]
    want = [[1, 0], [0, 0], [0.6, 0.8], [0, 1]]
    np.testing.assert_array_equal(tower.item_vectors.numpy(), np.array(want, np.float32))
    again = refresh_catalogue(tower, _items(a=0, c=2, new=1), remove_absent=True)
    assert again == Changes(0, 0, changed=0, removed=0, unchanged=4)
    back = refresh_catalogue(tower, _items(a=0, b=1, c=2, new=1), remove_absent=True)
    assert back == Changes(0, 0, changed=1, removed=0, unchanged=3)
    np.testing.assert_array_equal(tower.item_vectors.numpy()[:3], _VECTORS)
