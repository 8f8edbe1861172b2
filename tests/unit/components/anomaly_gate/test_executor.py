"""The gate on real anomalies of TFDV."""

import os

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.anomaly_gate import executor

_GOOD = tfdv.generate_statistics_from_dataframe(
    pd.DataFrame({"user_sex": ["f", "m"], "age": [1, 2]})
)
_BAD = tfdv.generate_statistics_from_dataframe(pd.DataFrame({"user_sex": ["f", "f"]}))
_SCHEMA = tfdv.infer_schema(_GOOD)


def test_clean_data_passes():
    executor.check({"train": tfdv.validate_statistics(_GOOD, _SCHEMA)})


def test_every_anomaly_is_named_with_its_split():
    with pytest.raises(executor.AnomalyError, match=r"test: age: Column dropped"):
        executor.check(
            {
                "train": tfdv.validate_statistics(_GOOD, _SCHEMA),
                "test": tfdv.validate_statistics(_BAD, _SCHEMA),
            }
        )


def test_warnings_pass():
    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["age"].severity = anomalies_pb2.AnomalyInfo.WARNING
    executor.check({"train": anomalies})


def test_executor_reads_every_split(tmp_path):
    artifact = standard_artifacts.ExampleAnomalies()
    artifact.uri = str(tmp_path)
    artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    for split, statistics in (("train", _GOOD), ("eval", _BAD)):
        folder = artifact_utils.get_split_uri([artifact], split)
        os.makedirs(folder)
        anomalies = tfdv.validate_statistics(statistics, _SCHEMA)
        with open(os.path.join(folder, "SchemaDiff.pb"), "wb") as file:
            file.write(anomalies.SerializeToString())
    with pytest.raises(executor.AnomalyError, match="eval: age"):
        executor.Executor().Do({"anomalies": [artifact]}, {}, {})
