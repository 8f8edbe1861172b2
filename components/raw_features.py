"""Parsing specification of raw examples, from the schema artifact."""

import os
from typing import Any

from tensorflow_transform.tf_metadata import schema_utils
from tfx.utils import io_utils


def read_spec(schema_uri: str) -> dict[str, Any]:
    """Returns the TensorFlow feature specification of a schema artifact."""
    schema = io_utils.SchemaReader().read(os.path.join(schema_uri, "schema.pbtxt"))
    return schema_utils.schema_as_feature_spec(schema).feature_spec
