"""Transform's outputs on hand-made rows, through the real Beam implementation."""

import tempfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from model.tfx_functions import preprocessing

_SPEC = {
    "user_id": tf.io.VarLenFeature(tf.string),
    "item_id": tf.io.VarLenFeature(tf.string),
    "timestamp": tf.io.VarLenFeature(tf.int64),
    "num_targets": tf.io.VarLenFeature(tf.int64),
    "num_context": tf.io.VarLenFeature(tf.int64),
    "item_genre": tf.io.VarLenFeature(tf.string),
    "item_price": tf.io.VarLenFeature(tf.float32),
    "user_country": tf.io.VarLenFeature(tf.string),
}
_CONFIG = {
    "preprocessing": {
        "history_length": 3,
        "times": True,
        "item_features": {
            "genre": {"kind": "categorical"},
            "price": {"kind": "numeric", "num_buckets": 2},
        },
        "user_features": {"country": {"kind": "categorical"}},
        "category": "genre",
        "filters": ["genre", "price"],
    }
}


def _row(items, user=None, targets=0, context=0, genre=(), price=(), country=()):
    is_sequence = user is not None
    return {
        "user_id": [user] if is_sequence else [],
        "item_id": list(items),
        # The n-th event of a sequence is at 100 + n.
        "timestamp": list(range(101, 101 + len(items))) if is_sequence else [],
        "num_targets": [targets] if is_sequence else [],
        "num_context": [context] if is_sequence else [],
        "item_genre": list(genre),
        "item_price": list(price),
        "user_country": list(country),
    }


# Counted events: b 3, a 2, "new\n%0Aline" 1; "cold" only in the catalogue. The
# second row repeats b, b as context, which must not be counted twice.
_TRAIN = [
    _row([b"a", b"b", b"b"], user=b"u1", country=[b"NL"]),
    _row([b"b", b"b", b"a", b"b", b"new\n%0Aline"], user=b"u2", context=2),
]
_CATALOG = [
    _row([b"a"], genre=[b"x", b"y"], price=[1.0]),
    _row([b"cold"], genre=[b"x"], price=[9.0]),
]
_EVAL = [
    _row([b"a", b"?", b"b", b"a", b"b", b"?", b"cold"], user=b"e1", targets=2, country=[b"??"]),
    _row([b"?", b"b"], user=b"e2", targets=1, country=[b"NL"]),
]


@pytest.fixture(scope="module")
def transformed():
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(_SPEC))
    with tempfile.TemporaryDirectory() as work, tft_beam.Context(temp_dir=work):
        transform_fn = ((_TRAIN + _CATALOG), metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing.preprocessing_fn(inputs, _CONFIG)
        )
        transform_fn | tft_beam.WriteTransformFn(work)
        output = tft.TFTransformOutput(work)
        layer = output.transform_features_layer()

        def apply(rows):
            examples = [
                tf.train.Example(
                    features=tf.train.Features(
                        feature={
                            key: tf.train.Feature(float_list=tf.train.FloatList(value=value))
                            if key == "item_price"
                            else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
                            if key.startswith("num_") or key == "timestamp"
                            else tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
                            for key, value in row.items()
                        }
                    )
                ).SerializeToString()
                for row in rows
            ]
            return layer(tf.io.parse_example(examples, _SPEC))

        vocabulary = preprocessing.item_ids(output)
        yield vocabulary, apply(_TRAIN), apply(_CATALOG), apply(_EVAL)


def _ragged(sparse):
    return tf.RaggedTensor.from_sparse(sparse).to_list()


def test_vocabulary_is_ordered_by_train_frequency_and_holds_the_catalogue(transformed):
    vocabulary = transformed[0]
    assert vocabulary == [b"b", b"a", b"new\n%0Aline", b"cold"]


def test_train_sequences_are_whole(transformed):
    train = transformed[1]
    assert _ragged(train["sequence"]) == [[2, 1, 1], [1, 1, 2, 1, 3]]
    np.testing.assert_array_equal(train["num_context"], [[0], [2]])
    assert _ragged(train["targets"]) == [[], []]


def test_history_drops_unknown_items_before_it_keeps_the_newest(transformed):
    evaluation = transformed[3]
    np.testing.assert_array_equal(evaluation["history"], [[1, 2, 1], [0, 0, 0]])


def test_times_go_with_their_items(transformed):
    _, train, catalog, evaluation = transformed
    assert _ragged(train["sequence_time"]) == [[101, 102, 103], [101, 102, 103, 104, 105]]
    assert _ragged(catalog["sequence_time"]) == [[0], [0]]  # the item, not in a sequence
    # Without the times of the unknown items; the targets belong to the sequence.
    assert _ragged(evaluation["sequence_time"]) == [[101, 103, 104, 105, 107], [102]]
    np.testing.assert_array_equal(evaluation["history_time"], [[103, 104, 105], [0, 0, 0]])


def test_unknown_targets_stay_as_misses(transformed):
    evaluation = transformed[3]
    assert _ragged(evaluation["targets"]) == [[0, 4], [1]]


def test_profile_is_zero_when_absent_or_unknown(transformed):
    np.testing.assert_array_equal(transformed[1]["user_country"], [[1], [0]])
    np.testing.assert_array_equal(transformed[3]["user_country"], [[0], [1]])


def test_catalogue_rows_carry_index_and_side_features(transformed):
    catalog = transformed[2]
    np.testing.assert_array_equal(catalog["item_index"], [[2], [4]])
    genres = _ragged(catalog["item_genre"])
    assert genres[1] == [1]  # x is the more frequent genre
    assert genres[0] == [1, 2]
    assert _ragged(catalog["item_price"]) == [[1], [2]]


def test_categories_pass_through_as_they_are(transformed):
    assert _ragged(transformed[2]["category"]) == [[b"x", b"y"], [b"x"]]


def test_values_to_filter_by_pass_through_as_they_are(transformed):
    assert _ragged(transformed[2]["filter_genre"]) == [[b"x", b"y"], [b"x"]]
    assert _ragged(transformed[2]["filter_price"]) == [[1.0], [9.0]]
