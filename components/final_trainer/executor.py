"""Finds the files of ``FinalTrainer`` and repeats the training."""

from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from contract import features
from contract.config_types import from_json
from contract.manifest import JUDGED_MODEL, STEPS_ON_ALL
from model.tfx_functions.final_training import train_on_all
from model.tfx_functions.training_setup import TrainerConfig

CONFIG_KEY = "config"
EXAMPLES_KEY = "examples"
GRAPH_KEY = "transform_graph"
MODEL_KEY = "judged_model"
RUN_KEY = "judged_run"
BASE_KEY = "base_model"
BLESSING_KEY = "model_blessing"
FINAL_MODEL_KEY = "model"
FINAL_RUN_KEY = "model_run"

_SPLITS = (features.TRAIN, features.REST, features.CATALOG, features.EVAL)


class Executor(base_executor.BaseExecutor):
    """Executor of ``FinalTrainer``."""

    def Do(  # TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains, or copies a model that is not blessed; see ``FinalTrainer``."""
        judged = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
        judged_run = artifact_utils.get_single_uri(input_dict[RUN_KEY])
        final = artifact_utils.get_single_instance(output_dict[FINAL_MODEL_KEY])
        final_dir = path_utils.serving_model_dir(final.uri)
        final_run = artifact_utils.get_single_uri(output_dict[FINAL_RUN_KEY])
        blessing = artifact_utils.get_single_instance(input_dict[BLESSING_KEY])
        steps = 0
        if model_utils.is_model_blessed(blessing):
            base = input_dict.get(BASE_KEY)
            steps = train_on_all(
                from_json(TrainerConfig, exec_properties[CONFIG_KEY]),
                artifact_utils.get_single_uri(input_dict[GRAPH_KEY]),
                {
                    split: [
                        io_utils.all_files_pattern(
                            artifact_utils.get_split_uri(input_dict[EXAMPLES_KEY], split)
                        )
                    ]
                    for split in _SPLITS
                },
                judged_run,
                path_utils.serving_model_path(artifact_utils.get_single_uri(base)) if base else "",
                final_dir,
                final_run,
            )
        if not steps:
            logging.info(
                "The model is copied unchanged: it is not blessed, or its training kept the "
                "weights that it started from."
            )
            io_utils.copy_dir(path_utils.serving_model_path(judged.uri), final_dir)
            io_utils.copy_dir(judged_run, final_run)
            return
        final.set_int_custom_property(STEPS_ON_ALL, steps)
        final.set_string_custom_property(JUDGED_MODEL, judged.uri)
