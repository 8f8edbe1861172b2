"""Validates the bundle and writes TFX's InfraBlessing."""

import os
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.example_files import split_files
from contract.config_types import from_json
from contract.features import EVAL
from retrieval.config import IndexConfig
from retrieval.validation import report, validate

VALIDATION_FILE = "validation.json"
# The names that TFX's InfraValidator writes and its Pusher reads.
_BLESSED_PROPERTY = "blessed"
_BLESSED_FILE = "INFRA_BLESSED"
_NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"


class Executor(base_executor.BaseExecutor):
    """Executor of ``IndexValidator``."""

    def Do(  # TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the blessing and ``validation.json``; see ``IndexValidator``."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        config = from_json(IndexConfig, exec_properties["index_config"])
        validation = validate(
            path_utils.serving_model_path(model.uri),
            split_files(input_dict["examples"], EVAL),
            config,
        )
        io_utils.write_string_file(os.path.join(blessing.uri, VALIDATION_FILE), report(validation))
        io_utils.write_string_file(
            os.path.join(blessing.uri, _BLESSED_FILE if validation.blessed else _NOT_BLESSED_FILE),
            "",
        )
        blessing.set_int_custom_property(_BLESSED_PROPERTY, int(validation.blessed))
        if not validation.blessed:
            logging.warning("The index is not blessed: %s", "; ".join(validation.reasons))
