"""Infers one schema for two kinds of rows: people's sequences and the catalogue."""

from collections.abc import Sequence

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2


def infer_schema(
    sequences: Sequence[statistics_pb2.DatasetFeatureStatisticsList],
    catalog: statistics_pb2.DatasetFeatureStatisticsList,
) -> schema_pb2.Schema:
    """Infers the schema of sequence rows and adds the features that only catalogue rows have.

    TFX's SchemaGen deprecates every feature that is missing from one split. Here only train rows
    have a context, only held-out rows have a history length, and catalogue rows share nothing
    with either except the item id.

    Args:
      sequences: Statistics of the sequence splits, train first.
      catalog: Statistics of the catalogue split.
    """
    schema = tfdv.infer_schema(sequences[0], infer_feature_shape=False)
    for statistics in sequences[1:]:
        schema = tfdv.update_schema(schema, statistics, infer_feature_shape=False)
    in_all_splits = set.intersection(*map(_feature_names, sequences))
    for feature in schema.feature:
        feature.ClearField("lifecycle_stage")
        if feature.name not in in_all_splits:
            feature.ClearField("presence")
    known = {feature.name for feature in schema.feature}
    domains = {domain.name for domain in schema.string_domain}
    of_items = tfdv.infer_schema(catalog, infer_feature_shape=False)
    for feature in of_items.feature:
        if feature.name not in known:
            feature.ClearField("presence")  # sequence rows do not have it
            schema.feature.append(feature)
            if feature.domain and feature.domain not in domains:
                schema.string_domain.append(tfdv.get_domain(of_items, feature.name))
    for feature in schema.feature:
        if feature.type == schema_pb2.BYTES:
            # Ids that all look like numbers today may not do so tomorrow.
            feature.ClearField("int_domain")
    return schema


def _feature_names(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> set[str]:
    return {feature.path.step[0] for feature in statistics.datasets[0].features}
