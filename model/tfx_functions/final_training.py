"""Trains the judged model once more, with the events that were kept back to judge it.

What a model is judged by, it must not have seen; what is served should have seen
everything. After the judgement the training is therefore repeated with train and rest
together: from the same beginning (nothing, or the model in service), for as many steps as
gave the weights that were judged, at the same learning rates. More steps from the judged
weights on would be steps beyond those that the validation has chosen.
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
    """Repeats the judged training with all events and exports; of several workers the chief does.

    Interrupted, a second call with the same arguments goes on from the last checkpoint, as
    ``fit`` does.

    Args:
      config: What the judged model was trained with.
      transform_graph: Output of the Transform step.
      files: Transformed examples (file patterns) of train, rest, catalog and eval.
      judged_run_dir: Where the judged training wrote its report.
      base_model_dir: SavedModel that it could go on from; "" if there was none.
      serving_model_dir: Gets the SavedModel.
      model_run_dir: Gets the report of this training.

    Returns:
      The number of steps. If it is 0, the judged training had not changed the weights with
      which it began, nor does this one, and nothing is written.
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
    # The report, with the times in it, tells one judged training from every other.
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
