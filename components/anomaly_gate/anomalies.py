"""Turns the anomalies that ExampleValidator found into a readable list."""

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2

from contract.errors import UserError

_ERROR = anomalies_pb2.AnomalyInfo.ERROR
_WHOLE_SPLIT = "(whole split)"


class DataAnomalyError(UserError):
    """Data that contradicts the schema."""


def errors(anomalies: anomalies_pb2.Anomalies) -> dict[str, str]:
    """Descriptions of the anomalies of severity ERROR, by feature.

    What concerns no single feature, as a missing split, stands under
    ``(whole split)``.
    """
    found = {
        feature: info.description or info.short_description
        for feature, info in sorted(anomalies.anomaly_info.items())
        if info.severity == _ERROR
    }
    if anomalies.data_missing:
        found[_WHOLE_SPLIT] = "The split holds no example"
    elif anomalies.dataset_anomaly_info.severity == _ERROR:
        found[_WHOLE_SPLIT] = anomalies.dataset_anomaly_info.description
    return found


def check(anomalies: Mapping[str, anomalies_pb2.Anomalies]) -> None:
    """Refuses data with anomalies.

    Args:
      anomalies: By split.

    Raises:
      DataAnomalyError: with one line per anomaly of severity ERROR: split, feature,
        what.
    """
    lines = [
        f"  {split} / {feature}: {what}"
        for split, found in anomalies.items()
        for feature, what in errors(found).items()
    ]
    if lines:
        raise DataAnomalyError(
            f"The data contradicts the schema in {len(lines)} point(s):\n"
            + "\n".join(lines)
            + "\nRepair the data or, if it is right, the schema; nothing was trained"
        )
