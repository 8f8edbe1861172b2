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
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
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
