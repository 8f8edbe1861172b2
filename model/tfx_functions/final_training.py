"""Repeats the training of an evaluated model with the events that were held out to evaluate it.

A model must not have seen the events that it is evaluated on, but the served model should have
seen all events. After the evaluation, the training is therefore repeated on the splits train and
rest together. It has the same starting point (random weights, or the model in service), the
same number of steps as the evaluated weights, and the same learning rates. Training the
evaluated weights further instead would exceed the number of steps that validation chose.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf

from contract import features
from contract.training_report import INTEREST_CHOICE, TRAINING_REPORT
from model.tfx_functions.trainer import log_progress, state_of
from model.tfx_functions.training_setup import TrainerConfig, set_up
from model.training.distribution import is_chief, worker_directory
from model.training.interest_choice import InterestChoice
from model.training.loop import WarmStart, fit


def train_on_all(
    config: TrainerConfig,
    transform_graph: str,
    files: Mapping[str, Sequence[str]],
    judged_run_dir: str,
    base_model_dir: str,
    serving_model_dir: str,
    model_run_dir: str,
) -> int:
    """Repeats the training of an evaluated model with all events and exports the result.

    If there are several workers, only the chief exports. If a call is interrupted, a second
    call with the same arguments resumes from the last checkpoint, as ``fit`` does.

    Args:
      config: The configuration that the evaluated model was trained with.
      transform_graph: Output of the Transform step.
      files: File patterns of the transformed examples of train, rest, catalog and eval.
      judged_run_dir: Directory with the report of the evaluated model's training.
      base_model_dir: SavedModel that this training could continue from; "" if there was none.
      serving_model_dir: Directory to write the SavedModel to.
      model_run_dir: Directory to write the report of the repeated training to.

    Returns:
      The number of steps. 0 means that the best weights of the evaluated training were those
      that it started from. The training is then not repeated, and nothing is written.
    """
    with tf.io.gfile.GFile(os.path.join(judged_run_dir, TRAINING_REPORT)) as file:
        text = file.read()
    judged = json.loads(text)
    if not judged["best_step"]:
        return 0
    setup = set_up(
        config,
        transform_graph,
        files[features.TRAIN],
        files[features.CATALOG],
        files[features.EVAL],
    )
    if judged["num_interests"] != setup.mind.num_interests:
        setup = setup.with_interests(judged["num_interests"])
    # The report contains measured times, so that its digest identifies one training.
    name = f"all-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    checkpoint_dir = os.path.join(config.checkpoint_dir, name)
    warm_start = None
    if config.training.warm_start:
        warm_start = WarmStart(
            restore_from=state_of(base_model_dir) if judged["warm_start"] else "",
            save_to=state_of(serving_model_dir),
            tokens=setup.tokens,
            from_nothing_because=judged["from_nothing_because"],
        )
    result = fit(
        setup.mind,
        setup.read_sequences([*files[features.TRAIN], *files[features.REST]]),
        setup.validation,
        dataclasses.replace(config.training, max_steps=judged["best_step"], max_seconds=0),
        checkpoint_dir,
        log_dir=model_run_dir,
        on_progress=log_progress,
        warm_start=warm_start,
        repeats=judged["history"],
    )
    if choice := judged[INTEREST_CHOICE]:
        result = dataclasses.replace(result, interest_choice=InterestChoice(**choice))
    if is_chief(setup.strategy):
        setup.export(serving_model_dir, model_run_dir, result)
    checkpoints = worker_directory(setup.strategy, checkpoint_dir)
    if tf.io.gfile.exists(checkpoints):
        tf.io.gfile.rmtree(checkpoints)
    return result.steps
