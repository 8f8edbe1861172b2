"""The Trainer's ``run_fn``, which turns transformed examples into an exported model."""

import dataclasses
import datetime
import json
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from contract import features, manifest
from contract.config_types import from_dict
from contract.training_report import FROM_NOTHING_BECAUSE
from model.config import TrainingConfig, WarmStartConfig
from model.tfx_functions.training_setup import TrainerConfig, TrainingSetup, set_up
from model.training.distribution import is_chief, worker_directory
from model.training.interest_choice import choose_interests
from model.training.loop import WarmStart, fit
from model.training.results import Progress, TrainingResult
from model.training.warm_start import Tokens, generation_of, interests_of

_log = logging.getLogger("mind.training")
_progress_log = logging.getLogger("mind.progress")


class FnArgs(Protocol):
    """The part of TFX's ``FnArgs`` that `run_fn` uses."""

    train_files: list[str]
    eval_files: list[str]
    transform_output: str
    serving_model_dir: str
    model_run_dir: str
    base_model: str | None
    hyperparameters: dict[str, Any] | None
    custom_config: dict[str, Any]


def log_progress(progress: Progress) -> None:
    """Writes the progress line that the terminal shows during a training."""
    parts = [
        f"step {progress.step:,}/{progress.max_steps:,}",
        f"{progress.examples_per_second:,.0f} examples/s",
        f"loss {progress.loss:.3f}",
    ]
    if progress.validation_recall is not None:
        parts.append(f"validation recall {progress.validation_recall:.4f}")
    parts.append(f"at most {datetime.timedelta(seconds=round(progress.seconds_left))} left")
    _progress_log.info(", ".join(parts))


def run_fn(fn_args: FnArgs, on_progress: Callable[[Progress], None] = log_progress) -> None:
    """Trains and exports the model; called by the Trainer component.

    Besides the SavedModel, it writes ``training_report.json`` and TensorBoard
    events into the model run directory. If there are several workers, only the chief
    writes.

    Args:
      fn_args: The arguments from the Trainer component.
      on_progress: Called after every block of steps. An exception from it ends the training
        before anything is exported and leaves the checkpoints in place.

    Raises:
      RuntimeError: if accelerators were requested and TensorFlow sees no GPU.
    """
    config = from_dict(TrainerConfig, fn_args.custom_config)
    setup = set_up(
        config,
        fn_args.transform_output,
        _of_split(fn_args.train_files, features.TRAIN),
        _of_split(fn_args.train_files, features.CATALOG),
        fn_args.eval_files,
    )
    training, warm_start, checkpoint_dir = config.training, None, config.checkpoint_dir
    if training.warm_start is not None:
        warm_start = _warm_start(fn_args, training.warm_start, setup.tokens)
        # Each starting point has its own checkpoints, so that a training never resumes from
        # those of a training that started elsewhere (from scratch or from another model).
        name = _name_of_model(fn_args.base_model) if warm_start.restore_from else "nothing"
        checkpoint_dir = os.path.join(checkpoint_dir, f"from-{name}")
        if warm_start.restore_from:
            training = dataclasses.replace(
                training,
                max_steps=training.warm_start.steps,
                learning_rate=training.warm_start.learning_rate or training.learning_rate,
            )
    goes_on = warm_start is not None and bool(warm_start.restore_from)
    if goes_on and training.try_one_interest:
        assert warm_start is not None
        chosen = interests_of(warm_start.restore_from) or setup.mind.num_interests
        if chosen != setup.mind.num_interests:
            setup = setup.with_interests(chosen)
    result = fit(
        setup.mind,
        setup.sequences,
        setup.validation,
        training,
        checkpoint_dir,
        log_dir=fn_args.model_run_dir,
        on_progress=on_progress,
        warm_start=warm_start,
    )
    checkpoints_of_one = f"{checkpoint_dir}-one-interest"
    if training.try_one_interest and setup.mind.num_interests > 1 and not goes_on:
        setup, result = _try_one_interest(
            setup, result, training, warm_start, fn_args, checkpoints_of_one, on_progress
        )
    if is_chief(setup.strategy):
        setup.export(fn_args.serving_model_dir, fn_args.model_run_dir, result)
    # Checkpoints are only for resuming an interrupted training; this one is complete.
    for directory in (checkpoint_dir, checkpoints_of_one):
        checkpoints = worker_directory(setup.strategy, directory)
        if tf.io.gfile.exists(checkpoints):
            tf.io.gfile.rmtree(checkpoints)


def _try_one_interest(
    several: TrainingSetup,
    with_several: TrainingResult,
    training: TrainingConfig,
    warm_start: WarmStart | None,
    fn_args: FnArgs,
    checkpoint_dir: str,
    on_progress: Callable[[Progress], None],
) -> tuple[TrainingSetup, TrainingResult]:
    """Trains a one-interest model in the same way; returns the setup to keep and its result."""
    one = several.with_interests(1)
    state = f"{warm_start.save_to}-one-interest" if warm_start else ""
    with_one = fit(
        one.mind,
        one.sequences,
        one.validation,
        training,
        checkpoint_dir,
        log_dir=os.path.join(fn_args.model_run_dir, "one_interest"),
        on_progress=on_progress,
        warm_start=dataclasses.replace(warm_start, save_to=state) if warm_start else None,
    )
    choice = choose_interests(
        several.mind,
        one.mind,
        several.validation.sample(training.eval_max_users),
        training.eval_cutoff,
        training.eval_exclude_history,
    )
    _log.info("Several interests or one: %s", choice)
    kept, result = (several, with_several) if choice.num_interests > 1 else (one, with_one)
    if warm_start and is_chief(several.strategy):
        if kept is one:
            tf.io.gfile.rmtree(warm_start.save_to)
            tf.io.gfile.rename(state, warm_start.save_to)
        else:
            tf.io.gfile.rmtree(state)
    return kept, dataclasses.replace(result, interest_choice=choice)


def _warm_start(fn_args: FnArgs, config: WarmStartConfig, tokens: Tokens) -> WarmStart:
    """Returns the base model to continue from, or the reason for a training from scratch."""
    state = state_of(fn_args.base_model or "")
    generation = generation_of(state) if fn_args.base_model else None
    if generation is None:
        because = "no model in service has a training state"
    elif generation + 1 >= config.full_every:
        because = f"training.warm_start.full_every is {config.full_every}"
    else:
        because = (fn_args.hyperparameters or {}).get(FROM_NOTHING_BECAUSE, "")
    return WarmStart(
        restore_from="" if because else state,
        save_to=state_of(fn_args.serving_model_dir),
        tokens=tokens,
        from_nothing_because=because,
    )


def state_of(model_dir: str) -> str:
    """Directory in a model that holds the state from which a later training continues."""
    return os.path.join(model_dir, manifest.TRAINING_STATE_DIR)


def _name_of_model(model_dir: str | None) -> str:
    """Returns the key of the run that made a pushed model, which identifies the model."""
    with tf.io.gfile.GFile(os.path.join(model_dir or "", manifest.MANIFEST_PATH)) as file:
        return json.loads(file.read())[manifest.RUN_KEY]


def _of_split(patterns: list[str], split: str) -> list[str]:
    chosen = [p for p in patterns if f"{os.sep}Split-{split}{os.sep}" in p]
    if not chosen:
        raise ValueError(f"expected transformed examples of split {split!r}, received {patterns}")
    return chosen
