"""Reads the statistics of every split and writes the schema."""

import os
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.schema_gen.infer import infer_schema
from contract import features

_FILE_NAME = "schema.pbtxt"  # the name that TFX's components expect
_STATISTICS_FILE = "FeatureStats.pb"


class Executor(base_executor.BaseExecutor):
    """Executor of ``SequenceSchemaGen``."""

    def Do(  # TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the schema; see ``SequenceSchemaGen``."""

        def load(split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
            directory = artifact_utils.get_split_uri(input_dict["statistics"], split)
            return tfdv.load_stats_binary(os.path.join(directory, _STATISTICS_FILE))

        written = artifact_utils.decode_split_names(
            artifact_utils.get_single_instance(input_dict["statistics"]).split_names
        )
        sequences = [load(split) for split in written if split != features.CATALOG]
        schema = infer_schema(sequences, load(features.CATALOG))
        io_utils.write_pbtxt_file(
            os.path.join(artifact_utils.get_single_uri(output_dict["schema"]), _FILE_NAME), schema
        )
