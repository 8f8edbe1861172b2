"""Metrics and thresholds given to TFMA."""

import json

import pytest
import tensorflow_model_analysis as tfma

from pipeline import eval_config
from pipeline.config import EvaluationConfig


def _metrics(config):
    return {json.loads(m.config)["name"]: m for m in config.metrics_specs[0].metrics}


def test_every_metric_has_a_name_of_its_own():
    config = eval_config.model_eval_config(EvaluationConfig())
    assert len(_metrics(config)) == len(config.metrics_specs[0].metrics)
    assert {f"{q}_at_{n}" for q in ("recall", "hit_rate", "ndcg") for n in (10, 20, 50)} | {
        "mrr",
        "coverage_at_50",
        "recall_at_50_tail",
        "recall_at_50_popularity",
    } <= set(_metrics(config))


def test_thresholds_are_two_and_for_all_people_together():
    config = eval_config.model_eval_config(
        EvaluationConfig(min_lift_over_popularity=0.02, max_drop_from_pushed=0.05)
    )
    found = {
        name: threshold
        for name, metric in _metrics(config).items()
        for threshold in metric.per_slice_thresholds
    }
    assert set(found) == {"recall_at_50", "recall_at_50_lift_over_popularity"}
    assert all(list(t.slicing_specs) == [tfma.SlicingSpec()] for t in found.values())
    lift = found["recall_at_50_lift_over_popularity"].threshold.value_threshold
    assert lift.lower_bound.value == pytest.approx(0.02)
    change = found["recall_at_50"].threshold.change_threshold
    assert change.absolute.value == pytest.approx(-0.05)
    assert change.direction == tfma.MetricDirection.HIGHER_IS_BETTER
    assert not any(m.HasField("threshold") for m in _metrics(config).values())


def test_history_included_moves_the_thresholds():
    config = eval_config.model_eval_config(EvaluationConfig(exclude_history=False))
    metrics = _metrics(config)
    assert metrics["recall_at_50_history_included"].per_slice_thresholds
    assert not metrics["recall_at_50"].per_slice_thresholds


def test_a_baseline_is_measured_but_never_blessed():
    config = eval_config.baseline_eval_config(EvaluationConfig())
    assert not any(m.per_slice_thresholds for m in _metrics(config).values())
    assert "recall_at_50" in _metrics(config)


@pytest.mark.parametrize("exclude", [True, False])
def test_personal_frequency_is_measured_where_the_history_is_a_candidate(exclude):
    config = eval_config.baseline_eval_config(EvaluationConfig(exclude_history=exclude))
    found = {name for name in _metrics(config) if "personal_frequency" in name}
    expected = {
        f"{q}_at_{n}_personal_frequency_history_included"
        for q in ("recall", "hit_rate", "ndcg")
        for n in (10, 20, 50)
    } | {"mrr_personal_frequency_history_included", "recall_at_50_personal_frequency_by_group"}
    assert found == (set() if exclude else expected)
