"""Reads the metrics that an Evaluator wrote."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma

from contract.evaluation_outputs import OVERALL, group_sums_from_bytes

_BYTES = "bytesValue"  # the key in the JSON of TFMA's MetricValue

Metrics = dict[str, dict[str, dict[str, float]]]


def read_metrics(evaluation_uri: str, model_name: str) -> Metrics:
    """Returns ``{slice: {metric: {value, low, high}}}``, with the 95 % confidence interval.

    Args:
      evaluation_uri: The URI of a ModelEvaluation artifact.
      model_name: The model's name in the evaluation's configuration. Empty if there is only
        one model, because TFMA then drops its name.
    """
    loaded = tfma.load_eval_result(evaluation_uri, model_name=model_name)
    return {
        _slice_name(key): {
            name: _bounded(value) for name, value in metrics[""][""].items() if _BYTES not in value
        }
        for key, metrics in loaded.slicing_metrics
    }


def read_group_sums(evaluation_uri: str, model_name: str) -> dict[str, np.ndarray]:
    """Reads the sums within groups of people, of the slice with all people.

    Args:
      evaluation_uri: The URI of a ModelEvaluation artifact.
      model_name: As in ``read_metrics``.

    Returns:
      The sums and the numbers of people in each group, [2, ``NUM_GROUPS``], by metric.
    """
    loaded = tfma.load_eval_result(evaluation_uri, model_name=model_name)
    return {
        name: group_sums_from_bytes(base64.b64decode(value[_BYTES]))
        for key, metrics in loaded.slicing_metrics
        if _slice_name(key) == OVERALL
        for name, value in metrics[""][""].items()
        if _BYTES in value
    }


def _slice_name(key: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in key) or OVERALL


def _bounded(value: Mapping[str, Any]) -> dict[str, float]:
    if "boundedValue" in value:
        bounded = value["boundedValue"]
        numbers = {
            "value": bounded.get("value", 0.0),
            "low": bounded.get("lowerBound", 0.0),
            "high": bounded.get("upperBound", 0.0),
        }
    else:
        numbers = {"value": value.get("doubleValue", 0.0)}
    return {k: float(v) for k, v in numbers.items() if not math.isnan(float(v))}
