"""The training loop: schedule, early stopping and resumable checkpoints."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from contract.config_types import to_json
from model.config import TrainingConfig
from model.network.mind import MindModel
from model.training.distribution import is_chief, worker_directory
from model.training.input_pipeline import training_batches
from model.training.optimizer import LazyAdam
from model.training.results import Progress, TrainingResult
from model.training.step import make_run_steps
from model.training.validation import ValidationData, calibrate, evaluate
from model.training.warm_start import Tokens, WarmStarted, restore_state, save_state

_log = logging.getLogger("mind.training")
# Steps per call of the graph; only each call, not each step, returns to the host.
_STEPS_PER_CALL = 50
_CHECKPOINTS_KEPT = 2
REPEAT_OFFSET = "repeat_offset"


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Where a training finds an earlier training's state and saves its own for the next one.

    Attributes:
      restore_from: Directory of the state to continue from; empty to train from scratch.
      save_to: Directory in which this training saves its state.
      tokens: Tokens of the model's embedding tables.
      from_nothing_because: Why the training starts from scratch; empty if it continues from
        an earlier one.
    """

    restore_from: str
    save_to: str
    tokens: Tokens
    from_nothing_because: str = ""


@dataclasses.dataclass
class _State:
    """What a resumed training needs besides the weights; saved as JSON."""

    best_step: int = 0
    best_recall: float = -1.0
    passes_without_gain: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0
    first_iteration: int = 0
    warm_start: dict[str, Any] | None = None
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)


def fit(
    model: MindModel,
    train_sequences: tf.data.Dataset,
    validation: ValidationData,
    training_config: TrainingConfig,
    checkpoint_dir: str,
    log_dir: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    warm_start: WarmStart | None = None,
    repeats: Sequence[Mapping[str, float]] = (),
) -> TrainingResult:
    """Trains until Recall@N on ``validation`` stops rising and keeps the best weights.

    If a training is interrupted at any moment, or even killed, a second call with the
    same arguments continues from the last checkpoint and ends with the same weights as an
    uninterrupted run, because the state of the optimizer, the random draws and the
    position in the data are restored.

    Args:
      model: The model, created in the scope of its ``tf.distribute`` strategy, if any.
      train_sequences: See `input_pipeline.training_batches`.
      validation: People to validate on; at most ``eval_max_users`` of them are used.
      training_config: Schedule, optimizer and early stopping.
      checkpoint_dir: Directory of the checkpoints; all workers must share its parent.
      log_dir: Directory in which the chief writes TensorBoard events, if given.
      on_progress: Called after every block of steps; an exception from it ends the
        training.
      warm_start: State of an earlier training to continue from; its weights count as
        step 0.
      repeats: The ``history`` of a training to repeat with other data. The repetition uses
        its learning rates and runs for ``max_steps``. Only the last weights are validated
        and kept.

    Raises:
      ValueError: if ``checkpoint_dir`` holds checkpoints of a different configuration, or
        if the earlier model does not fit.
      FloatingPointError: if the loss is not finite.
    """
    return _Trainer(
        model, validation, training_config, checkpoint_dir, log_dir, warm_start, repeats
    ).run(train_sequences, on_progress)


def _claim_directory(path: str, configuration: str) -> None:
    """Stores the configuration beside the checkpoints, or checks that the stored one is equal."""
    config_file = os.path.join(path, "config.json")
    if not tf.io.gfile.exists(config_file):
        tf.io.gfile.makedirs(path)
        with tf.io.gfile.GFile(config_file, "w") as file:
            file.write(configuration)
        return
    with tf.io.gfile.GFile(config_file) as file:
        found = file.read()
    if found != configuration:
        raise ValueError(
            f"{path} holds checkpoints of another configuration.\nexpected: {configuration}"
            f"found: {found}Delete the directory or choose another one."
        )


class _Trainer:
    """One call of `fit`."""

    def __init__(
        self,
        model: MindModel,
        validation: ValidationData,
        config: TrainingConfig,
        checkpoint_dir: str,
        log_dir: str | None,
        warm_start: WarmStart | None,
        repeats: Sequence[Mapping[str, float]],
    ):
        self._model = model
        self._repeats = repeats
        self._warm_start = warm_start
        self._config = config
        self._validation = validation.sample(config.eval_max_users)
        self._strategy = model.distribute_strategy
        with self._strategy.scope():
            self._optimizer = LazyAdam(config.learning_rate, jit_compile=False)
            self._optimizer.build(model.trainable_variables)
        writes_events = log_dir and is_chief(self._strategy)
        self._writer = tf.summary.create_file_writer(log_dir) if writes_events else None
        self._state = _State()
        self._saved_state = tf.Variable("", dtype=tf.string)
        # When a training resumes, every worker reads the chief's checkpoints.
        self._resume_from = os.path.join(checkpoint_dir, "latest")
        checkpoint_dir = worker_directory(self._strategy, checkpoint_dir)
        self._directory = checkpoint_dir
        _claim_directory(checkpoint_dir, f"{to_json(model.model_config)}\n{to_json(config)}\n")
        latest = tf.train.Checkpoint(
            model=model, optimizer=self._optimizer, state=self._saved_state
        )
        self._latest = tf.train.CheckpointManager(
            latest, os.path.join(checkpoint_dir, "latest"), max_to_keep=_CHECKPOINTS_KEPT
        )
        self._best = tf.train.CheckpointManager(
            tf.train.Checkpoint(model=model), os.path.join(checkpoint_dir, "best"), max_to_keep=1
        )

    @property
    def _step(self) -> int:
        return int(self._optimizer.iterations.numpy()) - self._state.first_iteration

    def run(
        self, train_sequences: tf.data.Dataset, on_progress: Callable[[Progress], None] | None
    ) -> TrainingResult:
        self._restore(train_sequences)
        resumed_from_step = self._step
        if resumed_from_step:
            _log.info(
                "Training resumes from step %d; checkpoint in %s",
                resumed_from_step,
                self._resume_from,
            )
        config = self._config
        batches = training_batches(
            train_sequences,
            self._model.model_config.history_length,
            config.batch_size,
            config.seed,
            config.targets_per_sequence,
            start_step=self._step,
            every_position=self._model.model_config.encoder is not None,
            narrow=self._strategy.num_replicas_in_sync == 1,
            repeat=self._model.model_config.repeat,
        )
        iterator = iter(self._strategy.experimental_distribute_dataset(batches))
        run_steps = make_run_steps(self._model, self._optimizer, config.jit_compile)
        if self._state.warm_start and not self._state.history and not self._repeats:
            self._validate()  # the earlier weights may already be the best
        while (stopped_by := self._stop_reason()) is None:
            started = time.monotonic()
            count = self._steps_to_boundary()
            if self._repeats:  # each pass recorded the learning rate of the steps before it
                rates = (p["learning_rate"] for p in self._repeats if p["step"] > self._step)
                self._optimizer.learning_rate.assign(next(rates))
            loss = float(run_steps(iterator, tf.constant(count)))
            seconds = self._agreed(time.monotonic() - started)
            self._after_steps(count, loss, seconds)
            self._state.seconds += self._agreed(time.monotonic() - started)
            if self._step % config.checkpoint_every_steps == 0:
                self._save()
            if on_progress:
                on_progress(self._progress(count, loss, seconds))
        if self._step % config.checkpoint_every_steps:
            self._save()
        self._best.checkpoint.restore(self._best.latest_checkpoint).expect_partial()
        state = self._state
        carried = WarmStarted(**state.warm_start) if state.warm_start else None
        if self._warm_start:
            # All workers must take part in saving. The copies of the workers other than the
            # chief are deleted with their checkpoints.
            save_state(
                self._warm_start.save_to
                if is_chief(self._strategy)
                else os.path.join(self._directory, "state"),
                self._model,
                self._optimizer,
                self._warm_start.tokens,
                carried.generation if carried else 0,
                self._warm_start.from_nothing_because,
            )
        return TrainingResult(
            steps=self._step,
            resumed_from_step=resumed_from_step,
            best_step=state.best_step,
            best_recall=state.best_recall,
            stopped_by=stopped_by,
            seconds=state.seconds,
            examples_per_second=self._step * config.batch_size / max(state.step_seconds, 1e-9),
            history=state.history,
            warm_start=carried,
            from_nothing_because=self._warm_start.from_nothing_because if self._warm_start else "",
            num_interests=self._model.num_interests,
        )

    def _agreed(self, seconds: float) -> float:
        """Averages a duration over the workers, because all must stop at the same step."""
        if self._strategy.num_replicas_in_sync == 1:
            return seconds
        values = self._strategy.run(lambda: tf.constant(seconds))
        return float(self._strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None))

    def _restore(self, train_sequences: tf.data.Dataset) -> None:
        if latest := tf.train.latest_checkpoint(self._resume_from):
            self._latest.checkpoint.restore(latest).assert_existing_objects_matched()
            self._state = _State(**json.loads(self._saved_state.numpy()))
        elif self._warm_start and self._warm_start.restore_from:
            started = restore_state(
                self._warm_start.restore_from,
                self._model,
                self._optimizer,
                self._warm_start.tokens,
                train_sequences,
                self._config.warm_start.mismatch if self._config.warm_start else "fail",
            )
            self._state.warm_start = dataclasses.asdict(started)
            self._state.first_iteration = int(self._optimizer.iterations.numpy())
            _log.info("Training continues from an earlier model: %s", started)

    def _save(self) -> None:
        self._saved_state.assign(json.dumps(dataclasses.asdict(self._state)))
        self._latest.save(checkpoint_number=self._step)

    def _steps_to_boundary(self) -> int:
        """Steps until the host must validate, save or report progress."""
        config, step = self._config, self._step
        periods = (config.eval_every_steps, config.checkpoint_every_steps)
        return min(
            _STEPS_PER_CALL, config.max_steps - step, *(every - step % every for every in periods)
        )

    def _after_steps(self, count: int, loss: float, seconds: float) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss} at step {self._step}; expected a finite number. Lower "
                f"learning_rate ({self._config.learning_rate}) or raise temperature "
                f"({self._config.temperature})."
            )
        state = self._state
        state.step_seconds += seconds
        state.loss_sum += loss * count
        state.loss_steps += count
        self._write_summary({"loss": loss, "examples_per_second": self._rate(count, seconds)})
        is_last = self._step >= self._config.max_steps or self._out_of_time(seconds)
        if is_last or (not self._repeats and self._step % self._config.eval_every_steps == 0):
            self._validate()

    def _validate(self) -> None:
        config, state = self._config, self._state
        cutoff, repeat = config.eval_cutoff, self._model.repeat
        if repeat and self._repeats:  # training now includes these people, so calibration cannot
            judged = next(p for p in self._repeats if p["step"] == self._step)
            repeat.offset.assign(judged[REPEAT_OFFSET])
        else:
            calibrate(self._model, self._validation, cutoff)
        metrics = evaluate(self._model, self._validation, (cutoff,), config.eval_exclude_history)
        recall = metrics[f"recall@{cutoff}"]
        state.history.append(
            {
                "step": self._step,
                # A warm start is validated before its first step, when there is no loss yet.
                **({"loss": state.loss_sum / state.loss_steps} if state.loss_steps else {}),
                "seconds": state.seconds,
                "recall": recall,
                "learning_rate": float(self._optimizer.learning_rate.numpy()),
                "active_interests": metrics["active_interests"],
                "interest_cosine": metrics["interest_cosine"],
                **({REPEAT_OFFSET: float(repeat.offset.numpy())} if repeat else {}),
            }
        )
        state.loss_sum, state.loss_steps = 0.0, 0
        self._write_summary({f"validation/{name}": value for name, value in metrics.items()})
        if recall > state.best_recall:
            state.best_recall, state.best_step = recall, self._step
            state.passes_without_gain = 0
            self._best.save(checkpoint_number=self._step)
        else:
            state.passes_without_gain += 1
            if state.passes_without_gain % config.plateau_patience == 0:
                rate = self._optimizer.learning_rate
                rate.assign(rate * config.plateau_factor)

    def _write_summary(self, scalars: Mapping[str, float]) -> None:
        if self._writer:
            with self._writer.as_default(step=self._step):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)

    def _out_of_time(self, seconds: float = 0.0) -> bool:
        limit = self._config.max_seconds
        return bool(limit) and self._state.seconds + seconds >= limit

    def _stop_reason(self) -> str | None:
        if self._state.passes_without_gain >= self._config.early_stopping_patience:
            return "patience"
        if self._step >= self._config.max_steps:
            return "max_steps"
        # Without a validation pass there are no best weights to keep.
        return "max_seconds" if self._out_of_time() and self._state.history else None

    def _rate(self, count: int, seconds: float) -> float:
        return count * self._config.batch_size / max(seconds, 1e-9)

    def _progress(self, count: int, loss: float, seconds: float) -> Progress:
        config, state = self._config, self._state
        seconds_left = (config.max_steps - self._step) * state.seconds / self._step
        if config.max_seconds:
            seconds_left = min(seconds_left, max(config.max_seconds - state.seconds, 0.0))
        history = state.history
        return Progress(
            step=self._step,
            max_steps=config.max_steps,
            examples_per_second=self._rate(count, seconds),
            loss=loss,
            validation_recall=history[-1]["recall"] if history else None,
            best_recall=state.best_recall if history else None,
            seconds_left=seconds_left,
            history=tuple(history),
        )
