"""Turns the anomalies that ExampleValidator found into a readable list."""

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import anomalies_pb2

from contract.errors import UserError

_ERROR = anomalies_pb2.AnomalyInfo.ERROR
_WHOLE_SPLIT = "(whole split)"


class DataAnomalyError(UserError):
    """Raised when the data contradicts the schema."""


def errors(anomalies: anomalies_pb2.Anomalies) -> dict[str, str]:
    """Returns the descriptions of the anomalies of severity ERROR, by feature.

    An anomaly that does not concern a single feature, such as an empty split, has the key
    ``(whole split)``.
    """
    found = {
        feature: info.description or info.short_description
        for feature, info in sorted(anomalies.anomaly_info.items())
        if info.severity == _ERROR
    }
    if anomalies.data_missing:
        found[_WHOLE_SPLIT] = "The split contains no examples"
    elif anomalies.dataset_anomaly_info.severity == _ERROR:
        found[_WHOLE_SPLIT] = anomalies.dataset_anomaly_info.description
    return found


def check(anomalies: Mapping[str, anomalies_pb2.Anomalies]) -> None:
    """Refuses data with anomalies.

    Args:
      anomalies: The anomalies of each split, by split.

    Raises:
      DataAnomalyError: if there is an anomaly of severity ERROR. The message has one line per
        anomaly with its split, feature and description.
    """
    lines = [
        f"  {split} / {feature}: {what}"
        for split, found in anomalies.items()
        for feature, what in errors(found).items()
    ]
    if lines:
        raise DataAnomalyError(
            f"The data contradicts the schema in {len(lines)} place(s):\n"
            + "\n".join(lines)
            + "\nRepair the data or, if the data is right, the schema; nothing was trained"
        )
