"""Slots in the graph, without a server."""

import numpy as np
import tensorflow as tf

from retrieval.leaves import Leaves
from retrieval.live_items import LiveItems

_VECTORS = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], np.float32)


def _live(num_searched):
    centroids = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    live = LiveItems(10, 2, Leaves(centroids, tf.Variable(num_searched)), columns={})
    live.apply(
        slots=tf.range(3),
        ids=tf.constant(["a", "b", "c"]),
        titles=tf.constant(["", "", ""]),
        vectors=tf.constant(_VECTORS),
        counts=tf.constant([0.0, 0.0, 0.0]),
        values={},
        freed_ids=tf.zeros([0], tf.string),
        positions=tf.constant([4]),
        replaced_by=tf.constant([1]),
        num_replaced=tf.constant(1),
        # The first leaf has slots 0 and 1, the second slot 2.
        order=tf.constant([0, 1, 2]),
        starts=tf.constant([0, 2, 3]),
        fresh=tf.zeros([0], tf.int32),
    )
    return live


def _found(live, interest):
    interests = tf.constant([[interest]])
    found = live.candidates(interests, tf.constant([[True]]), tf.constant(9))
    return found.positions[0].numpy().tolist(), found.scores[0].numpy().tolist()


def test_the_leaves_nearest_to_the_interest_are_searched():
    positions, scores = _found(_live(1), [1.0, 0.0])
    assert positions == [10, 11]
    np.testing.assert_allclose(scores, [1.0, 0.8])


def test_more_leaves_to_search_than_there_are_is_all_of_them():
    """Partitions without an item have no centroid, and a tuning may choose to search all."""
    assert _found(_live(5), [0.0, 1.0])[0] == [12, 11, 10]


def test_positions_lead_to_what_took_their_place():
    live = _live(1)
    assert live.current(tf.constant([-1, 3, 4])).numpy().tolist() == [-1, 3, 11]
    assert live.positions_of(tf.constant(["c", "nobody"])).numpy().tolist() == [12, -1]
