"""Builds the popularity and item-kNN baselines from the train split."""

from typing import Any

import numpy as np
import tensorflow_transform as tft
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.baseline import item_knn, ranked_baseline, recent_popularity
from contract import evaluation_outputs, features
from model.tfx_functions import preprocessing, transformed_data


class Executor(base_executor.BaseExecutor):
    """Executor of ``BaselineBuilder``."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes both models; see ``BaselineBuilder``."""
        transform_output = tft.TFTransformOutput(
            artifact_utils.get_single_uri(input_dict["transform_graph"])
        )
        pattern = io_utils.all_files_pattern(
            artifact_utils.get_split_uri(input_dict["transformed_examples"], features.TRAIN)
        )
        values: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        for rows in transformed_data.read_sequences([pattern], transform_output, []):
            values.append(rows[features.SEQUENCE].values.numpy())
            lengths.append(rows[features.SEQUENCE].row_lengths().numpy())
        neighbours = item_knn.nearest_items(
            np.concatenate(values),
            np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
            transform_output.vocabulary_size_by_name(features.ITEM_VOCABULARY),
        )
        train_files = fileio.glob(
            io_utils.all_files_pattern(
                artifact_utils.get_split_uri(input_dict["examples"], features.TRAIN)
            )
        )
        item_ids = preprocessing.item_ids(transform_output)
        recent = recent_popularity.recent_ranks(
            recent_popularity.read_events(train_files, item_ids),
            len(item_ids),
            evaluation_outputs.RECENT_DAYS,
        )
        ranked_baseline.PopularityBaseline(transform_output).save(
            path_utils.serving_model_dir(
                artifact_utils.get_single_uri(output_dict["popularity_model"])
            )
        )
        ranked_baseline.ItemKnnBaseline(transform_output, neighbours, recent).save(
            path_utils.serving_model_dir(
                artifact_utils.get_single_uri(output_dict["item_knn_model"])
            )
        )
