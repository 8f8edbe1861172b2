import numpy as np
import pytest
import tensorflow as tf

from components.baseline.recent_popularity import read_events, recent_ranks
from model.tfx_functions import evaluation
from tests.synthetic_examples import write_examples

_DAY = 86_400


def _example(items, times, context=0):
    features = {
        "item_id": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[item.encode() for item in items])
        ),
        "timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=times)),
        "num_context": tf.train.Feature(int64_list=tf.train.Int64List(value=[context])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def test_ranks_by_hand():
    # Item 3 leads on the last day, item 2 in the last week, item 1 in all of train.
    items = np.array([1, 1, 1, 1, 2, 2, 2, 3, 3])
    times = np.array([1, 2, 3, 4, 96, 97, 98, 100, 100]) * _DAY
    ranks = recent_ranks([(items[:4], times[:4]), (items[4:], times[4:])], 4, (1, 7))
    assert ranks[1].tolist() == [0, 2, 3, 1, 4]
    assert ranks[7].tolist() == [0, 3, 1, 2, 4]


def test_a_day_ends_with_the_last_event_and_leaves_out_its_beginning():
    ranks = recent_ranks([(np.array([2, 1, 1]), np.array([0, _DAY, _DAY - 1]))], 2, (1,))
    # The event of item 2 was exactly one day before the last.
    assert ranks[1].tolist() == [0, 1, 2]


def test_events_are_read_once_by_vocabulary_index(tmp_path):
    path = tmp_path / "data-00000-of-00001.gz"
    write_examples(path, [_example("ab", [5, 6]), _example("abc", [5, 6, 7], context=2)])
    (batch,) = read_events([str(path)], [b"c", b"b", b"a"])
    assert [values.tolist() for values in batch] == [[3, 2, 1], [5, 6, 7]]


@pytest.mark.parametrize("exclude", [True, False])
def test_a_target_rises_by_the_history_before_it(exclude):
    rank = tf.constant([0, 4, 1, 3, 2])
    history = tf.constant([[2, 4, 2, 0]])  # ranks 1 and 2
    targets = tf.constant([[1, 3]])
    found = evaluation.popularity_ranks(
        tf.gather(rank, targets), tf.gather(rank, history), exclude
    ).numpy()
    assert found.tolist() == ([[2, 1]] if exclude else [[4, 3]])
