"""The parts of a tuning that use TensorFlow and TFX, each called in a separate process."""

import dataclasses
import importlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.utils import io_utils, path_utils

from components.evaluator.results import read_group_sums, read_metrics
from contract import features
from contract.config_types import to_dict
from contract.evaluation_outputs import BASELINE, CANDIDATE, OVERALL
from contract.metric_names import CUTOFF_QUANTITIES
from contract.training_report import TRAINING_REPORT
from model.paired_test import Difference, paired_difference
from model.training.results import Progress
from pipeline import entries, eval_config
from pipeline.config import RunConfig
from pipeline.create_pipeline import TRANSFORM, create_data_pipeline, trainer_config
from pipeline.local_dag_runner import LocalDagRunner
from pipeline.target import RunTarget, digest, local_target, training_key
from pipeline.tune import comparison
from pipeline.tune.places import TrialPlaces
from pipeline.tune.space import SpaceConfig

_log = logging.getLogger("mind.tuning")

Send = Callable[[Any], Any]


class _Stopped(Exception):
    """The trial is not worth training further."""


def begin(config: RunConfig, span: str, space: SpaceConfig, send: Send) -> str:
    """Prepares the data of all trials, and identifies the tuning.

    Returns:
      A digest of everything that its trials depend on: data, configuration, code and space.
    """
    target = _prepare(config, span)
    measured = (config.evaluation.primary_cutoff, config.evaluation.exclude_history)
    return digest(training_key(config, target.input_fingerprint), measured, to_dict(space))


def _prepare(config: RunConfig, span: str) -> RunTarget:
    """Runs the pipeline up to Transform, using the cache where possible."""
    target = local_target(config, span=span)
    LocalDagRunner().run(create_data_pipeline(config, target))
    return target


@dataclasses.dataclass
class _FnArgs:
    """The arguments that TFX's Trainer passes to ``run_fn``."""

    train_files: list[str]
    eval_files: list[str]
    transform_output: str
    serving_model_dir: str
    model_run_dir: str
    custom_config: dict[str, Any]
    base_model: str | None = None
    hyperparameters: dict[str, Any] | None = None


def train(config: RunConfig, span: str, place: TrialPlaces, send: Send) -> dict[str, Any]:
    """Trains one recipe as the Trainer does, and exports its model.

    An earlier attempt in the same directory is resumed from its checkpoints.

    Args:
      config: The recipe.
      span: Newest span of the log, as for ``local_runner.py``.
      place: Places of the trial, where its model artifact will be.
      send: Receives ``(step, recall)`` of each validation pass and answers whether to stop.

    Returns:
      ``{"recall", "best_step", "seconds"}``, or ``{"stopped": True}``, or ``{"diverged":
      message}``.
    """
    for leftover in (place.model, place.run):
        shutil.rmtree(leftover, ignore_errors=True)
    # From the cache, unless the recipe changes Transform.
    target = _prepare(config, span)
    examples, graph = (
        _newest_output(target, config.name, TRANSFORM, key)
        for key in ("transformed_examples", "transform_graph")
    )

    def files(split: str) -> str:
        return io_utils.all_files_pattern(str(Path(examples) / f"Split-{split}"))

    arguments = _FnArgs(
        train_files=[files(features.TRAIN), files(features.CATALOG)],
        eval_files=[files(features.EVAL)],
        transform_output=graph,
        serving_model_dir=path_utils.serving_model_dir(str(place.model)),
        model_run_dir=str(place.run),
        custom_config=to_dict(trainer_config(config, str(place.checkpoints))),
    )
    sent = 0

    def report(history: Any) -> None:
        nonlocal sent
        for entry in history[sent:]:
            sent += 1
            _log.info("Step %(step)d: validation recall %(recall).4f", entry)
            if send((int(entry["step"]), float(entry["recall"]))):
                raise _Stopped

    def on_progress(progress: Progress) -> None:
        report(progress.history)

    module, _, name = entries.RUN_FN.rpartition(".")
    run_fn = getattr(importlib.import_module(module), name)
    try:
        run_fn(arguments, on_progress)
        result = json.loads((place.run / TRAINING_REPORT).read_text(encoding="utf-8"))
        # The training may have been interrupted after its last step.
        report(result["history"])
    except _Stopped:
        return {"stopped": True}
    except FloatingPointError as error:
        return {"diverged": str(error)}
    return {
        "recall": result["best_recall"],
        "best_step": result["best_step"],
        "seconds": result["seconds"],
    }


def judge(
    config: RunConfig, span: str, candidate: TrialPlaces, baseline: TrialPlaces, send: Send
) -> dict[str, Any]:
    """Evaluates two models on the test people with the pipeline's Evaluator.

    Args:
      config: Determines data and metrics.
      span: As in ``begin``.
      candidate: Places of the trial whose model's lead is measured.
      baseline: Places of the trial whose model it is compared with.
      send: Not used.

    Returns:
      ``metrics``, a list of ``name``, ``default`` and ``winner``, whose first entry is the primary
      metric; ``difference``, the paired difference in that metric with its 95 % interval.
    """
    target = local_target(config, span=span)
    pipeline = comparison.create_comparison_pipeline(
        config, target, str(candidate.model), str(baseline.model)
    )
    LocalDagRunner().run(pipeline)
    uri = _newest_output(target, config.name, comparison.EVALUATOR, "evaluation")
    means = {name: read_metrics(uri, name)[OVERALL] for name in (CANDIDATE, BASELINE)}
    primary = eval_config.primary_metric(config.evaluation)
    names = [eval_config.metric_like_primary(config.evaluation, q) for q in CUTOFF_QUANTITIES]
    return {
        "metrics": [
            {
                "name": name,
                "default": means[BASELINE][name]["value"],
                "winner": means[CANDIDATE][name]["value"],
            }
            for name in sorted(names, key=lambda name: name != primary)
        ],
        "difference": dataclasses.asdict(_paired(uri, config)),
    }


def _paired(uri: str, config: RunConfig) -> Difference:
    """Computes the candidate's lead in the primary metric, on the same people."""
    metric = eval_config.group_sums_metric(config.evaluation)
    return paired_difference(
        read_group_sums(uri, CANDIDATE)[metric], read_group_sums(uri, BASELINE)[metric]
    )


def _newest_output(target: RunTarget, pipeline: str, node: str, key: str) -> str:
    """Returns the URI of an output of the newest run of a step."""
    store = MetadataStore(target.metadata_connection_config)
    context = store.get_context_by_type_and_name("node", f"{pipeline}.{node}")
    newest = max(store.get_executions_by_context(context.id), key=lambda execution: execution.id)
    for event in store.get_events_by_execution_ids([newest.id]):
        if event.type == metadata_store_pb2.Event.OUTPUT and any(
            step.key == key for step in event.path.steps
        ):
            (artifact,) = store.get_artifacts_by_id([event.artifact_id])
            return artifact.uri
    raise LookupError(f"the newest run of {node} has no output {key!r}")
