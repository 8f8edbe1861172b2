"""Measures the drift of side and profile features from earlier statistics, with TFDV."""

from collections.abc import Mapping

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from contract import features

# The splits whose features are compared, and the prefixes of these features. The catalogue has one
# row per item, and train has one row per person.
_PREFIXES = {features.CATALOG: features.ITEM_PREFIX, features.TRAIN: features.USER_PREFIX}
_IDS = (features.ITEM_ID, features.USER_ID)
_JENSEN_SHANNON = anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE

Statistics = Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]


def compared(statistics: Statistics) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    """Returns the statistics of only the features that are compared.

    Statistics of ids are dropped, because they would name people and items.

    Args:
      statistics: TFX's statistics by split.
    """
    found = {}
    for split, prefix in _PREFIXES.items():
        if split in statistics:
            kept = found[split] = statistics_pb2.DatasetFeatureStatisticsList()
            kept.CopyFrom(statistics[split])
            features_of = kept.datasets[0].features
            for position in reversed(range(len(features_of))):
                name = features_of[position].path.step[0]
                if not name.startswith(prefix) or name in _IDS:
                    del features_of[position]
    return found


def divergences(now: Statistics, before: Statistics) -> dict[tuple[str, str], float]:
    """Returns the Jensen-Shannon divergence of each feature that is in both statistics.

    Args:
      now: The result of ``compared`` for the newest data.
      before: The result of ``compared`` for earlier data.

    Returns:
      The divergences by split and feature.
    """
    found = {}
    for split in now.keys() & before.keys():
        names = _names(now[split]) & _names(before[split])
        for name, value in _of_split(now[split], before[split], names).items():
            found[split, name] = value
    return found


def _of_split(
    now: statistics_pb2.DatasetFeatureStatisticsList,
    before: statistics_pb2.DatasetFeatureStatisticsList,
    names: set[str],
) -> dict[str, float]:
    if not names:
        return {}
    schema = tfdv.infer_schema(now, infer_feature_shape=False)
    for feature in schema.feature:
        if feature.name in names:
            # TFDV measures only features that have a limit. The gate applies its own limits.
            feature.drift_comparator.jensen_shannon_divergence.threshold = 1.0
    anomalies = tfdv.validate_statistics(now, schema, previous_statistics=before)
    return {
        info.path.step[0]: measurement.value
        for info in anomalies.drift_skew_info
        for measurement in info.drift_measurements
        if measurement.type == _JENSEN_SHANNON
    }


def _names(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> set[str]:
    return {feature.path.step[0] for feature in statistics.datasets[0].features}
