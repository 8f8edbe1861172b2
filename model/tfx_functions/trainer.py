"""The Trainer's ``run_fn``: transformed examples in, exported model out."""

import dataclasses
import datetime
import json
import logging
import os
from typing import Any, Protocol

import tensorflow as tf
import tensorflow_transform as tft

from contract import features, manifest
from contract.config_types import config_dataclass, from_dict
from contract.training_report import TRAINING_REPORT
from model.config import ModelConfig, TrainingConfig
from model.network.item_encoder import ITEM_TABLE
from model.network.mind import MindModel
from model.tfx_functions import preprocessing, transformed_data
from model.tfx_functions.export import ExportedMind
from model.tfx_functions.preprocessing import PreprocessingConfig
from model.training.distribution import (
    is_chief,
    make_strategy,
    require_accelerators,
    worker_directory,
)
from model.training.loop import Progress, WarmStart, fit
from model.training.validation import ValidationData
from model.training.warm_start import generation_of

_progress_log = logging.getLogger("mind.progress")


@config_dataclass
class TrainerConfig:
    """Everything ``run_fn`` needs; travels as the Trainer's ``custom_config``.

    Attributes:
      model: The network.
      training: Loss, optimiser, schedule.
      preprocessing: What Transform was given.
      checkpoint_dir: Where an interrupted training is resumed from.
      num_recommended: Items in the ``recommended`` output of ``evaluate``.
      exclude_history: Whether those items leave the person's history out.
      num_accelerators: Accelerators that the Trainer is given; it refuses to run if
        TensorFlow sees none of them. 0 asks for none.
      source_digest: Digest of the code, so that edited code misses the cache.
    """

    model: ModelConfig
    training: TrainingConfig
    preprocessing: PreprocessingConfig
    checkpoint_dir: str
    num_recommended: int
    exclude_history: bool
    num_accelerators: int
    source_digest: str


class FnArgs(Protocol):
    """The part of TFX's ``FnArgs`` that is used."""

    train_files: list[str]
    eval_files: list[str]
    transform_output: str
    serving_model_dir: str
    model_run_dir: str
    base_model: str | None
    custom_config: dict[str, Any]


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; called by the Trainer component.

    Besides the SavedModel it writes ``training_report.json`` and TensorBoard
    events into the model run directory. Of several workers only the chief writes.

    Raises:
      RuntimeError: if accelerators were asked for and TensorFlow sees none.
    """
    config = from_dict(TrainerConfig, fn_args.custom_config)
    require_accelerators(config.num_accelerators)
    # Before any operation: several workers agree on their devices first.
    strategy = make_strategy(config.training)
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    item_features = [features.side_feature(n) for n in config.preprocessing.item_features]
    profile_names = [features.profile_feature(n) for n in config.preprocessing.user_features]
    train_files = _of_split(fn_args.train_files, features.TRAIN)
    catalog_files = _of_split(fn_args.train_files, features.CATALOG)

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
        item_features,
        counts,
        with_titles=config.preprocessing.titles,
        with_categories=bool(config.preprocessing.category),
    )
    people = transformed_data.read_people(
        fn_args.eval_files,
        transform_output,
        profile_names,
        config.training.eval_max_users,
        with_times,
    )
    with strategy.scope():
        mind = MindModel(
            config.model,
            config.training,
            catalogue,
            transformed_data.profile_vocab_sizes(
                transform_output, config.preprocessing.user_features
            ),
        )
    training, warm_start, checkpoint_dir = config.training, None, config.checkpoint_dir
    if training.warm_start is not None:
        warm_start = _warm_start(fn_args, config, transform_output)
        # So that a training from nothing is never resumed as one that goes on from a
        # model, nor that as one from another model.
        name = _name_of_model(fn_args.base_model) if warm_start.restore_from else "nothing"
        checkpoint_dir = os.path.join(checkpoint_dir, f"from-{name}")
        if warm_start.restore_from:
            training = dataclasses.replace(
                training,
                max_steps=training.warm_start.steps,
                learning_rate=training.warm_start.learning_rate or training.learning_rate,
            )
    result = fit(
        mind,
        sequences,
        ValidationData(
            history=people.history,
            targets=tf.ragged.constant(people.targets, dtype=tf.int32),
            profile=people.profile,
            excluded=people.excluded,
            times=people.times,
        ),
        training,
        checkpoint_dir,
        log_dir=fn_args.model_run_dir,
        on_progress=_log_progress,
        warm_start=warm_start,
    )
    if is_chief(strategy):
        report = os.path.join(fn_args.model_run_dir, TRAINING_REPORT)
        tf.io.gfile.makedirs(fn_args.model_run_dir)
        with tf.io.gfile.GFile(report, "w") as file:
            file.write(json.dumps(dataclasses.asdict(result), indent=1))
        ExportedMind(
            mind,
            transform_output,
            catalogue,
            texts,
            item_features,
            profile_names,
            config.num_recommended,
            config.exclude_history,
        ).save(fn_args.serving_model_dir)
    # Resuming is for an interrupted run; this one is complete.
    checkpoints = worker_directory(strategy, checkpoint_dir)
    if tf.io.gfile.exists(checkpoints):
        tf.io.gfile.rmtree(checkpoints)


def _warm_start(
    fn_args: FnArgs, config: TrainerConfig, transform_output: tft.TFTransformOutput
) -> WarmStart:
    """From where the training goes on: the base model, unless it is time for a full one."""
    warm_start = config.training.warm_start
    assert warm_start is not None
    state = os.path.join(fn_args.base_model or "", manifest.TRAINING_STATE_DIR)
    generation = generation_of(state) if fn_args.base_model else None
    goes_on = generation is not None and generation + 1 < warm_start.full_every
    tokens: dict[str, list[bytes] | None] = {ITEM_TABLE: preprocessing.item_ids(transform_output)}
    for name_of, table in (
        (features.side_feature, config.preprocessing.item_features),
        (features.profile_feature, config.preprocessing.user_features),
    ):
        for name, feature in table.items():
            key = name_of(name)
            is_bucket = feature.kind == "numeric"
            tokens[key] = None if is_bucket else transform_output.vocabulary_by_name(key)
    return WarmStart(
        restore_from=state if goes_on else "",
        save_to=os.path.join(fn_args.serving_model_dir, manifest.TRAINING_STATE_DIR),
        tokens=tokens,
    )


def _name_of_model(model_dir: str | None) -> str:
    """What tells a pushed model from every other: the key of the run that made it."""
    with tf.io.gfile.GFile(os.path.join(model_dir or "", manifest.MANIFEST_PATH)) as file:
        return json.loads(file.read())[manifest.RUN_KEY]


def _of_split(patterns: list[str], split: str) -> list[str]:
    chosen = [p for p in patterns if f"{os.sep}Split-{split}{os.sep}" in p]
    if not chosen:
        raise ValueError(f"expected transformed examples of split {split!r}, received {patterns}")
    return chosen


def _log_progress(progress: Progress) -> None:
    parts = [
        f"step {progress.step:,}/{progress.max_steps:,}",
        f"{progress.examples_per_second:,.0f} examples/s",
        f"loss {progress.loss:.3f}",
    ]
    if progress.validation_recall is not None:
        parts.append(f"validation recall {progress.validation_recall:.4f}")
    parts.append(f"at most {datetime.timedelta(seconds=round(progress.seconds_left))} left")
    _progress_log.info(", ".join(parts))
