import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.example_gen import records
from components.example_gen.config import FeatureConfig
from components.example_gen.events import sort_events
from components.example_gen.rows import FEATURE_PREFIX, ID, ITEM, LIST_SEPARATOR, TIME, TITLE, USER
from components.example_gen.splits import Rows


def _decode(serialized):
    """Features of an example as plain lists; without a value they count as absent."""
    example = tf.train.Example.FromString(serialized)
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind:
            found[name] = list(getattr(feature, kind).value)
    return found


EVENTS = sort_events(
    [
        pa.table(
            {
                USER: ["v", "u", "u", "u"],
                ITEM: ["a", 'b,"c"\n', "日本", "a"],
                TIME: pa.array([9, 1, 2, 3]),
            }
        )
    ]
)


def test_train_example():
    rows = Rows(*(np.array(column) for column in ([1, 3], [3, 4], [0, 0], [1, 0], [2, 1])))
    first, second = map(_decode, records.sequence_examples(EVENTS, rows, None, "train"))
    assert first == {
        "user_id": [b"u"],
        "item_id": ["日本".encode(), b"a"],
        "timestamp": [2, 3],
        "num_targets": [0],
        "num_context": [1],
    }
    assert second["user_id"] == [b"v"]
    assert second["item_id"] == [b"a"]


def test_eval_example_with_profile():
    profiles = pa.table(
        {
            ID: ["u", "v"],
            FEATURE_PREFIX + "age": pa.array([[30.0], None], pa.list_(pa.float32())),
            FEATURE_PREFIX + "city": pa.array([None, [b"X", b"Y"]], pa.list_(pa.binary())),
        }
    )
    rows = Rows.make(np.array([0, 3]), np.array([3, 4]), np.array([2, 3]))
    first, second = map(_decode, records.sequence_examples(EVENTS, rows, profiles, "eval"))
    assert first == {
        "user_id": [b"u"],
        "item_id": [b'b,"c"\n', "日本".encode(), b"a"],
        "timestamp": [1, 2, 3],
        "num_targets": [1],
        "history_length_bucket": [b"1-4"],
        "user_age": [30.0],
    }
    assert second["user_city"] == [b"X", b"Y"]
    assert "user_age" not in second


def test_examples_beyond_one_batch(monkeypatch):
    monkeypatch.setattr(records, "_EXAMPLES_AT_ONCE", 2)
    rows = Rows.make(np.arange(3), np.arange(1, 4), np.arange(1, 4))
    found = [
        _decode(e)["timestamp"] for e in records.sequence_examples(EVENTS, rows, None, "train")
    ]
    assert found == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("length", "bucket"),
    [(1, "1-4"), (4, "1-4"), (5, "5-9"), (9, "5-9"), (10, "10-19"), (19, "10-19"),
     (20, "20-49"), (49, "20-49"), (50, "50+"), (5000, "50+")],
)  # fmt: skip
def test_history_length_bucket(length, bucket):
    assert records.history_length_bucket(np.array([length])).to_pylist() == [bucket]


def _rows(**columns):
    return pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})


def test_entity_table():
    rows = _rows(
        **{
            ID: ["a", "b", "a", "c", "d"],
            TITLE: ["A, the first", None, "again", " ", "D"],
            FEATURE_PREFIX + "genre": ["x| y |", None, "z", "", f"p{LIST_SEPARATOR}q|r"],
            FEATURE_PREFIX + "price": ["1.5", "cheap", "2", " 3 ", f"nan{LIST_SEPARATOR}4"],
        }
    )
    configs = {
        "genre": FeatureConfig(column="-", separator="|"),
        "price": FeatureConfig(column="-", kind="numeric"),
    }
    table, unparsable, repeated = records.entity_table(rows, configs)
    assert table.to_pydict() == {
        ID: ["a", "b", "c", "d"],
        TITLE: [[b"A, the first"], None, None, [b"D"]],
        FEATURE_PREFIX + "genre": [[b"x", b"y"], None, None, [b"p", b"q", b"r"]],
        FEATURE_PREFIX + "price": [[1.5], None, [3.0], [4.0]],
    }
    assert unparsable == {"price": 2}
    assert repeated == 1


def test_lookup_gives_null_for_unknown_ids():
    table, _, _ = records.entity_table(
        _rows(**{ID: ["a", "b"], FEATURE_PREFIX + "g": ["x", "y"]}),
        {"g": FeatureConfig(column="-")},
    )
    found = records.lookup(pa.array(["b", "zzz", "a"]), table)
    assert found.to_pydict() == {
        ID: ["b", "zzz", "a"],
        FEATURE_PREFIX + "g": [[b"y"], None, [b"x"]],
    }


def test_catalogue_examples(monkeypatch):
    monkeypatch.setattr(records, "_EXAMPLES_AT_ONCE", 1)
    table, _, _ = records.entity_table(
        _rows(**{ID: ["a", "b"], TITLE: ["T", None], FEATURE_PREFIX + "g": [None, "x|y"]}),
        {"g": FeatureConfig(column="-", separator="|")},
    )
    assert [_decode(example) for example in records.catalogue_examples(table)] == [
        {"item_id": [b"a"], "title": [b"T"]},
        {"item_id": [b"b"], "item_g": [b"x", b"y"]},
    ]
