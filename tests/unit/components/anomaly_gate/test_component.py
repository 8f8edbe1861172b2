"""The gate on what TFDV itself finds in real statistics."""

import os

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.types import artifact_utils, standard_artifacts

from components.anomaly_gate.anomalies import DataAnomalyError, check, errors
from components.anomaly_gate.component import AnomalyGate

SCHEMA = """
feature { name: "item_id" type: BYTES presence { min_fraction: 1.0 min_count: 1 } }
feature { name: "num_targets" type: INT presence { min_fraction: 1.0 min_count: 1 } }
"""


def _anomalies(examples: list[dict]) -> anomalies_pb2.Anomalies:
    statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(examples))
    return tfdv.validate_statistics(statistics, text_format.Parse(SCHEMA, schema_pb2.Schema()))


def _run(tmp_path, by_split: dict[str, anomalies_pb2.Anomalies]) -> None:
    artifact = standard_artifacts.ExampleAnomalies()
    artifact.uri = str(tmp_path)
    artifact.split_names = artifact_utils.encode_split_names(list(by_split))
    for split, anomalies in by_split.items():
        folder = artifact_utils.get_split_uri([artifact], split)
        os.makedirs(folder)
        with open(os.path.join(folder, DEFAULT_FILE_NAME), "wb") as file:
            file.write(anomalies.SerializeToString())
    AnomalyGate.test_call(anomalies=artifact, source_digest="")


GOOD = [{"item_id": "a", "num_targets": 0}]
WRONG_TYPE = [{"item_id": "a", "num_targets": "many"}]


def test_clean_data_passes(tmp_path):
    _run(tmp_path, {"train": _anomalies(GOOD), "eval": _anomalies(GOOD)})


def test_an_error_in_any_split_fails_and_names_split_and_feature(tmp_path):
    with pytest.raises(DataAnomalyError) as error:
        _run(tmp_path, {"train": _anomalies(GOOD), "eval": _anomalies(WRONG_TYPE)})
    message = str(error.value)
    assert "1 place(s)" in message
    assert "eval / num_targets: Expected data of type: INT but got STRING" in message
    assert "train /" not in message


def test_a_warning_does_not_fail():
    found = anomalies_pb2.Anomalies()
    found.anomaly_info["x"].severity = anomalies_pb2.AnomalyInfo.WARNING
    found.anomaly_info["y"].severity = anomalies_pb2.AnomalyInfo.UNKNOWN
    assert errors(found) == {}
    check({"train": found})


def test_a_split_without_data_is_an_error():
    empty = tfdv.validate_statistics(
        statistics_pb2.DatasetFeatureStatisticsList(
            datasets=[statistics_pb2.DatasetFeatureStatistics(num_examples=0)]
        ),
        schema_pb2.Schema(feature=[schema_pb2.Feature(name="item_id", type=schema_pb2.BYTES)]),
    )
    assert empty.data_missing
    assert list(errors(empty)) == ["(whole split)"]


def test_several_anomalies_are_listed_by_feature():
    found = _anomalies([{"num_targets": "many", "unexpected": 1.0}])
    assert set(errors(found)) == {"item_id", "num_targets", "unexpected"}
