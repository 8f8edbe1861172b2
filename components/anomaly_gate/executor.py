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
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Raises on anomalies; see ``AnomalyGate``."""
        artifact = artifact_utils.get_single_instance(input_dict["anomalies"])
        anomalies = {}
        for split in artifact_utils.decode_split_names(artifact.split_names):
            folder = artifact_utils.get_split_uri([artifact], split)
            content = io_utils.read_bytes_file(os.path.join(folder, _ANOMALIES_FILE))
            anomalies[split] = anomalies_pb2.Anomalies.FromString(content)
        check(anomalies)
