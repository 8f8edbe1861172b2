<<<<<<< HEAD
"""Stops the run on data that breaks the schema."""

import os
from collections.abc import Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

_ANOMALIES_FILE = "SchemaDiff.pb"  # written by TFX's ExampleValidator


class AnomalyError(ValueError):
    """The data breaks the schema; the message lists how."""


def check(anomalies: Mapping[str, anomalies_pb2.Anomalies]) -> None:
    """Refuses anomalies of severity ERROR.

    Args:
      anomalies: By split.

    Raises:
      AnomalyError: naming split, feature and anomaly, one per line.
    """
    found = [
        f"  {split}: {feature}: {info.short_description}: {info.description}"
        for split, of_split in anomalies.items()
        for feature, info in sorted(_all(of_split).items())
        if info.severity == anomalies_pb2.AnomalyInfo.ERROR
    ]
    if found:
        raise AnomalyError(
            "The data breaks the schema:\n" + "\n".join(found) + "\nMend the data, or, if it is "
            "right, the schema (--bootstrap_schema infers a new one)."
        )


def _all(anomalies: anomalies_pb2.Anomalies) -> dict[str, anomalies_pb2.AnomalyInfo]:
    found = dict(anomalies.anomaly_info)
    if anomalies.HasField("dataset_anomaly_info"):
        found["(all rows)"] = anomalies.dataset_anomaly_info
    return found


class Executor(base_executor.BaseExecutor):
    """Executor of ``AnomalyGate``."""

    def Do(  # TFX's name
=======
"""Executor of AnomalyGate."""

import os
from typing import Any

from absl import logging
from tensorflow_data_validation.utils.anomalies_util import load_anomalies_binary
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils

from components.anomaly_gate.anomalies import check

ANOMALIES_KEY = "anomalies"


class Executor(BaseExecutor):
    """Fails if ExampleValidator found an error; ExampleValidator itself only reports."""

    def Do(
>>>>>>> data
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
<<<<<<< HEAD
        """Raises on anomalies; see ``AnomalyGate``."""
        artifact = artifact_utils.get_single_instance(input_dict["anomalies"])
        anomalies = {}
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            content = io_utils.read_bytes_file(os.path.join(folder, _ANOMALIES_FILE))
            anomalies[split] = anomalies_pb2.Anomalies.FromString(content)
        check(anomalies)
=======
        """Reads the anomalies of every validated split.

        Args:
          input_dict: ``anomalies``, an ExampleAnomalies artifact.
          output_dict: Empty.
          exec_properties: Empty.

        Raises:
          DataAnomalyError: if any has severity ERROR.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(input_dict[ANOMALIES_KEY])
        splits = artifact_utils.decode_split_names(artifact.split_names)
        check({split: _load(artifact, split) for split in splits})
        logging.info("No anomaly in %s", ", ".join(splits))


def _load(artifact: types.Artifact, split: str) -> anomalies_pb2.Anomalies:
    folder = artifact_utils.get_split_uri([artifact], split)
    return load_anomalies_binary(os.path.join(folder, DEFAULT_FILE_NAME))
>>>>>>> data
