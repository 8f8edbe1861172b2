"""Prepares a training of the pipeline: reads Transform's output and creates a new model."""

import dataclasses
import json
import os
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_transform as tft

from contract import features
from contract.config_types import config_dataclass
from contract.training_report import TRAINING_REPORT
from model.catalogue import Catalogue
from model.config import ModelConfig, TrainingConfig
from model.network.item_encoder import ITEM_TABLE
from model.network.mind import MindModel
from model.tfx_functions import preprocessing, transformed_data
from model.tfx_functions.export import ExportedMind
from model.tfx_functions.preprocessing import PreprocessingConfig
from model.tfx_functions.transformed_data import ItemTexts
from model.training.distribution import make_strategy, require_accelerators
from model.training.results import TrainingResult
from model.training.validation import ValidationData
from model.training.warm_start import Tokens


@config_dataclass
class TrainerConfig:
    """Everything that a training needs; the component receives it as ``custom_config``.

    Attributes:
      model: The network.
      training: Loss, optimizer and schedule.
      preprocessing: The configuration that Transform used.
      checkpoint_dir: Directory of checkpoints, from which an interrupted training resumes.
      num_recommended: Number of items in the ``recommended`` output of ``evaluate``.
      exclude_history: Whether these items leave the person's history out.
      num_accelerators: Number of accelerators requested for the component, which refuses
        to run if it is above 0 and TensorFlow sees no GPU.
      source_digest: Digest of the code, so that a change of the code invalidates the cache.
    """

    model: ModelConfig
    training: TrainingConfig
    preprocessing: PreprocessingConfig
    checkpoint_dir: str
    num_recommended: int
    exclude_history: bool
    num_accelerators: int
    source_digest: str


@dataclasses.dataclass(frozen=True)
class TrainingSetup:
    """A new model and the data to train it with.

    Attributes:
      strategy: The strategy under which the model was created.
      mind: The model, with its initial weights.
      sequences: Sequences of the split train, see ``input_pipeline.training_batches``.
      validation: People of the split eval.
      tokens: Tokens of the model's embedding tables.
    """

    strategy: tf.distribute.Strategy
    mind: MindModel
    sequences: tf.data.Dataset
    validation: ValidationData
    tokens: Tokens
    _config: TrainerConfig
    _transform_output: tft.TFTransformOutput
    _catalogue: Catalogue
    _texts: ItemTexts

    def with_interests(self, num_interests: int) -> "TrainingSetup":
        """Returns the same data with a new model of ``num_interests`` interests."""
        network = dataclasses.replace(self._config.model, num_interests=num_interests)
        config = dataclasses.replace(self._config, model=network)
        mind = _new_model(config, self.strategy, self._catalogue, self._transform_output)
        return dataclasses.replace(self, mind=mind, _config=config)

    def read_sequences(self, patterns: Sequence[str]) -> tf.data.Dataset:
        """Reads sequences to train on from the given files, such as those of another split."""
        return transformed_data.read_sequences(
            patterns,
            self._transform_output,
            _profile_names(self._config),
            self._config.preprocessing.times,
        )

    def export(self, serving_model_dir: str, model_run_dir: str, result: TrainingResult) -> None:
        """Writes the SavedModel and the training report."""
        tf.io.gfile.makedirs(model_run_dir)
        with tf.io.gfile.GFile(os.path.join(model_run_dir, TRAINING_REPORT), "w") as file:
            file.write(json.dumps(dataclasses.asdict(result), indent=1))
        ExportedMind(
            self.mind,
            self._transform_output,
            self._catalogue,
            self._texts,
            _item_features(self._config),
            _profile_names(self._config),
            self._config.num_recommended,
            self._config.exclude_history,
        ).save(serving_model_dir)


def set_up(
    config: TrainerConfig,
    transform_graph: str,
    train_files: Sequence[str],
    catalog_files: Sequence[str],
    eval_files: Sequence[str],
) -> TrainingSetup:
    """Reads Transform's output and creates the model.

    Args:
      config: Configuration of the training.
      transform_graph: Output of the Transform step.
      train_files: File patterns of the transformed examples of the split train, from which
        the items' train counts are computed, too.
      catalog_files: File patterns of the transformed catalogue.
      eval_files: File patterns of the transformed examples of the split eval.

    Raises:
      RuntimeError: if accelerators were requested and TensorFlow sees no GPU.
    """
    require_accelerators(config.num_accelerators)
    # The strategy of several workers must be created before any TensorFlow operation runs.
    strategy = make_strategy(config.training)
    transform_output = tft.TFTransformOutput(transform_graph)
    profile_names = _profile_names(config)
    with_times = config.preprocessing.times
    sequences = transformed_data.read_sequences(
        train_files, transform_output, profile_names, with_times
    )
    counts = transformed_data.train_counts(
        sequences, transform_output.vocabulary_size_by_name(features.ITEM_VOCABULARY)
    )
    catalogue, texts = transformed_data.read_catalogue(
        catalog_files,
        transform_output,
        _item_features(config),
        counts,
        with_titles=config.preprocessing.titles,
        with_categories=bool(config.preprocessing.category),
        filters=config.preprocessing.filters,
    )
    people = transformed_data.read_people(
        eval_files, transform_output, profile_names, config.training.eval_max_users, with_times
    )
    return TrainingSetup(
        strategy,
        _new_model(config, strategy, catalogue, transform_output),
        sequences,
        ValidationData(
            history=people.history,
            targets=tf.ragged.constant(people.targets, dtype=tf.int32),
            profile=people.profile,
            excluded=people.excluded,
            times=people.times,
        ),
        _tokens(config.preprocessing, transform_output),
        config,
        transform_output,
        catalogue,
        texts,
    )


def _new_model(
    config: TrainerConfig,
    strategy: tf.distribute.Strategy,
    catalogue: Catalogue,
    transform_output: tft.TFTransformOutput,
) -> MindModel:
    with strategy.scope():
        return MindModel(
            config.model,
            config.training,
            catalogue,
            transformed_data.profile_vocab_sizes(
                transform_output, config.preprocessing.user_features
            ),
        )


def _item_features(config: TrainerConfig) -> list[str]:
    return [features.side_feature(name) for name in config.preprocessing.item_features]


def _profile_names(config: TrainerConfig) -> list[str]:
    return [features.profile_feature(name) for name in config.preprocessing.user_features]


def _tokens(config: PreprocessingConfig, transform_output: tft.TFTransformOutput) -> Tokens:
    tokens: dict[str, list[bytes] | None] = {ITEM_TABLE: preprocessing.item_ids(transform_output)}
    for name_of, table in (
        (features.side_feature, config.item_features),
        (features.profile_feature, config.user_features),
    ):
        for name, feature in table.items():
            key = name_of(name)
            is_bucket = feature.kind == "numeric"
            tokens[key] = None if is_bucket else transform_output.vocabulary_by_name(key)
    return tokens
