"""The inferred schema of rows of two kinds."""

import pandas as pd
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2

from components.schema_gen.infer import infer_schema


def _statistics(rows):
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows))


_TRAIN = _statistics(
    {"user_id": ["1", "2"], "item_id": ["7", "8"], "user_sex": ["f", "m"], "num_context": [0, 1]}
)
_TEST = _statistics({"user_id": ["3"], "item_id": ["9"], "user_sex": ["x"], "bucket": ["1-4"]})
_CATALOG = _statistics({"item_id": ["7", "8"], "item_genre": ["a", "b"], "item_price": [1.0, 2.0]})


def _schema():
    return infer_schema([_TRAIN, _TEST], _CATALOG)


def test_no_feature_of_either_kind_is_deprecated():
    schema = _schema()
    assert {f.name for f in schema.feature} == {
        "user_id",
        "item_id",
        "user_sex",
        "num_context",
        "bucket",
        "item_genre",
        "item_price",
    }
    assert all(f.lifecycle_stage != schema_pb2.DEPRECATED for f in schema.feature)
    assert tfdv.get_feature(schema, "item_price").type == schema_pb2.FLOAT


def test_sequence_rows_validate_and_a_missing_column_does_not():
    schema = _schema()
    assert not tfdv.validate_statistics(_TRAIN, schema).anomaly_info
    assert not tfdv.validate_statistics(_TEST, schema).anomaly_info
    without_items = _statistics({"user_id": ["1", "2"], "user_sex": ["f", "m"]})
    assert set(tfdv.validate_statistics(without_items, schema).anomaly_info) == {"item_id"}


def test_ids_may_stop_looking_like_numbers():
    renamed = _statistics({"user_id": ["1"], "item_id": ["B000-X"], "user_sex": ["f"]})
    anomalies = tfdv.validate_statistics(renamed, _schema()).anomaly_info
    assert "item_id" not in anomalies
