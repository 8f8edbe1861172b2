"""The facts of a run, collected from its artifacts: ``summary.json``."""

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.utils import io_utils, path_utils

from components.evaluator.results import read_metrics
from components.example_gen.report import FILE_NAME as INGEST_REPORT
from components.index_validator.executor import VALIDATION_FILE
from contract import features
from contract.config_types import strict_json
from contract.evaluation_outputs import BASELINE, CANDIDATE, RECENT_DAYS
from contract.guard_rails import FINDINGS_FILE
from contract.manifest import STEPS_ON_ALL
from contract.metric_names import (
    PERSONAL_FREQUENCY,
    POPULARITY,
    parse_metric_name,
    recent_popularity,
)
from contract.release import NOT_PUSHED_BECAUSE, WITHDRAWN_VERSION
from contract.training_report import TRAINING_REPORT
from pipeline import eval_config
from pipeline.config import RunConfig
from pipeline.output_layout import SUMMARY_FILE
from pipeline.target import RunTarget
from report.run_artifacts import Step
from report.sample_people import sample_people
from retrieval.manifest import read_manifest
from retrieval.versions import newest_version


def summarise(
    config: RunConfig, target: RunTarget, steps: Mapping[str, Step], seconds: float
) -> dict[str, Any]:
    """Collects all facts about a run that are worth reporting.

    Parts whose step was not reached are None.

    Args:
      config: The run's configuration.
      target: Target of the run.
      steps: Its steps.
      seconds: Wall time.

    Returns:
      A dict that can be written as JSON; see the keys below.
    """
    metrics = _metrics(steps)
    return {
        "name": config.name,
        "run_key": target.run_key,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "steps": [
            {"id": name, "state": step.state, "seconds": round(step.seconds, 1)}
            for name, step in steps.items()
        ],
        "data": _json_output(steps, "example-gen", "examples", INGEST_REPORT),
        "training": _json_output(steps, "trainer", "model_run", TRAINING_REPORT),
        "primary_metric": eval_config.primary_metric(config.evaluation),
        "metrics": metrics,
        "blessing": _blessing(config, steps),
        "guard_rails": {
            "data": _json_output(steps, "data-gate", "findings", FINDINGS_FILE),
            "model": _json_output(steps, "model-gate", "blessing", FINDINGS_FILE),
            "final": _json_output(steps, "final-gate", "blessing", FINDINGS_FILE),
        },
        "final_training": _final_training(steps),
        "index": _json_output(steps, "index-validator", "blessing", VALIDATION_FILE),
        "manifest": _manifest(steps),
        "push": _push(steps, target),
        "sample_people": _samples(config, steps),
    }


def _output(steps: Mapping[str, Step], node: str, key: str) -> str | None:
    step = steps.get(node)
    if step is None or step.state == "failed" or key not in step.outputs:
        return None
    return step.outputs[key].uri


def _json_output(
    steps: Mapping[str, Step], node: str, key: str, name: str
) -> dict[str, Any] | None:
    uri = _output(steps, node, key)
    return None if uri is None else _read_json(os.path.join(uri, name))


def _read_json(path: str) -> dict[str, Any]:
    with tf.io.gfile.GFile(path) as file:
        return json.loads(file.read())


def _metrics(steps: Mapping[str, Step]) -> dict[str, Any]:
    """Returns ``{ranker: {slice: {metric: {value, low, high}}}}``; low and high are at 95 %."""
    result = {}
    for node, ranker, model_name in (
        ("evaluator", "mind", CANDIDATE),
        ("evaluator", "pushed", BASELINE),
        ("item-knn-evaluator", "item_knn", ""),  # TFMA drops the name of a single model
    ):
        uri = _output(steps, node, "evaluation")
        if uri is None:
            continue
        if ranker == "pushed" and not _has_pushed_baseline(steps):
            continue
        result[ranker] = read_metrics(uri, model_name)
    if "mind" in result:
        result[POPULARITY] = _part(result["mind"], POPULARITY)
    if "item_knn" in result:
        for name in (*map(recent_popularity, RECENT_DAYS), PERSONAL_FREQUENCY):
            part = _part(result["item_knn"], name)
            if any(part.values()):  # not every baseline is configured
                result[name] = part
    return result


def _part(slices: Mapping[str, Any], qualifier: str) -> dict[str, Any]:
    """Returns the metrics of a baseline that is ranked inside another model's signature."""
    return {
        name: {
            metric.replace(f"_{qualifier}", "", 1): value
            for metric, value in values.items()
            if f"_{qualifier}" in metric and not parse_metric_name(metric).is_lift
        }
        for name, values in slices.items()
    }


def _has_pushed_baseline(steps: Mapping[str, Step]) -> bool:
    step = steps.get("last-pushed")
    return bool(step and step.outputs["model"].properties.get("version"))


def _final_training(steps: Mapping[str, Step]) -> dict[str, Any] | None:
    """Describes how the blessed model was trained on all events; None if it was not."""
    trained, evaluated = steps.get("final-trainer"), steps.get("final-evaluator")
    if not trained or not evaluated or "failed" in (trained.state, evaluated.state):
        return None
    done = trained.outputs["model"].properties.get(STEPS_ON_ALL)
    if done is None:
        return None
    return {
        "steps": done,
        "reasons": _missed(evaluated.outputs["evaluation"].uri, "the judged model"),
    }


def _blessing(config: RunConfig, steps: Mapping[str, Step]) -> dict[str, Any] | None:
    """Returns whether the model was blessed, the thresholds, and those that were missed."""
    step = steps.get("evaluator")
    if step is None or step.state == "failed":
        return None
    return {
        "blessed": bool(step.outputs["blessing"].properties.get("blessed")),
        "thresholds": {
            eval_config.lift_metric(config.evaluation): {
                "above": config.evaluation.min_lift_over_popularity
            },
            eval_config.primary_metric(config.evaluation): {
                "at_least_pushed_minus": config.evaluation.max_drop_from_pushed
            },
        },
        "reasons": _missed(step.outputs["evaluation"].uri, "the last pushed model"),
    }


def _missed(evaluation_uri: str, baseline: str) -> list[str]:
    """Returns sentences about missed thresholds; ``baseline`` names the model compared with."""
    validation = tfma.load_validation_result(evaluation_uri)
    return [
        _failure(failure, baseline)
        for sliced in validation.metric_validations_per_slice
        for failure in sliced.failures
    ]


def _failure(failure: Any, baseline: str) -> str:
    what = f"differs from that of {baseline} by" if failure.metric_key.is_diff else "is"
    return f"{failure.metric_key.name} {what} {_number(failure.metric_value):+.4f}"


def _number(value: Any) -> float:
    """Returns the value of TFMA's metric proto, with or without bounds."""
    bounded = value.WhichOneof("type") == "bounded_value"
    return value.bounded_value.value.value if bounded else value.double_value.value


def _manifest(steps: Mapping[str, Step]) -> dict[str, Any] | None:
    uri = _output(steps, "index-builder", "model")
    if uri is None:
        return None
    return read_manifest(path_utils.serving_model_dir(uri))


def _push(steps: Mapping[str, Step], target: RunTarget) -> dict[str, Any]:
    step = steps.get("pusher")
    properties = step.outputs["pushed_model"].properties if step and step.outputs else {}
    pushed = bool(properties.get("pushed"))
    return {
        "pushed": pushed,
        # The version in service may be another one if a version is pinned, or if refreshed items
        # are newer.
        "in_service": newest_version(target.push_destination) if pushed else "",
        "destination": target.push_destination,
        "version": properties.get("pushed_version", ""),
        "path": properties.get("pushed_destination", ""),
        WITHDRAWN_VERSION: properties.get(WITHDRAWN_VERSION, ""),
        NOT_PUSHED_BECAUSE: properties.get(NOT_PUSHED_BECAUSE, ""),
    }


def _samples(config: RunConfig, steps: Mapping[str, Step]) -> list[dict[str, Any]] | None:
    model = _output(steps, "index-builder", "model")
    examples = _output(steps, "example-gen", "examples")
    if model is None or examples is None:
        return None
    return sample_people(
        path_utils.serving_model_dir(model),
        io_utils.all_files_pattern(os.path.join(examples, f"Split-{features.TEST}")),
        profile_names=tuple(config.data.users.features if config.data.users else ()),
        exclude_history=config.evaluation.exclude_history,
    )


def write(summary: Mapping[str, Any], directory: Path) -> Path:
    """Writes ``summary.json`` and returns its path."""
    path = directory / SUMMARY_FILE
    path.write_text(strict_json(summary, indent=1), encoding="utf-8")
    return path
