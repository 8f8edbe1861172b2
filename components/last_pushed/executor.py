"""Copies the last pushed version, or the fallback, into an artifact."""

import os
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from retrieval.versions import complete_versions, newest_version


class Executor(base_executor.BaseExecutor):
    """Executor of ``LastPushedModel``."""

    def Do(  # TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Copies the model; see ``LastPushedModel``.

        Raises:
          ValueError: if the named version is not there or not complete.
        """
        destination = exec_properties["push_destination"]
        version = exec_properties["version"]
        if not version:
            version = newest_version(destination, exec_properties["run_key"])
        elif version not in (complete := complete_versions(destination)):
            raise ValueError(
                f"Baseline version {version!r} is not a complete version in {destination}; "
                f"expected one of {complete}. Name one of them, or none for the newest."
            )
        model = artifact_utils.get_single_instance(output_dict["model"])
        if version:
            source = os.path.join(destination, version)
        else:
            fallback = artifact_utils.get_single_instance(input_dict["fallback_model"])
            source = path_utils.serving_model_path(fallback.uri)
        io_utils.copy_dir(source, path_utils.serving_model_dir(model.uri))
        model.set_string_custom_property("version", version)
        logging.info("Baseline: %s", source)
