"""TFMA configuration: metrics, slices, and the thresholds for the blessing."""

import json
from typing import Any

import tensorflow_model_analysis as tfma

from contract import evaluation_outputs as outputs
from contract import features
from contract.evaluation_outputs import BASELINE, CANDIDATE
from contract.metric_names import (
    BY_GROUP,
    CONCENTRATION,
    COVERAGE,
    CUTOFF_QUANTITIES,
    DISTINCT_LISTS,
    HISTORY_INCLUDED,
    LIFT_OVER_POPULARITY,
    MRR,
    PERSONAL_FREQUENCY,
    POPULARITY,
    metric_name,
    recent_popularity,
)
from pipeline.config import EvaluationConfig

_MODULE = "components.evaluator.metrics"


def primary_metric(config: EvaluationConfig) -> str:
    """Returns the name of the metric that both thresholds use."""
    return _primary_name(config)


def metric_like_primary(config: EvaluationConfig, quantity: str) -> str:
    """Returns the name of another quantity, measured in the same way as the primary metric."""
    history = "" if config.exclude_history else HISTORY_INCLUDED
    return metric_name(quantity, config.primary_cutoff, history)


def lift_metric(config: EvaluationConfig) -> str:
    """Returns the name of the candidate's lift over popularity."""
    return _primary_name(config, LIFT_OVER_POPULARITY)


def model_eval_config(config: EvaluationConfig) -> tfma.EvalConfig:
    """Returns metrics and thresholds of the trained model, compared with the last pushed one."""
    metrics = _rank_metrics(config, outputs.RANKS)
    metrics += _rank_metrics(config, outputs.RANKS_HISTORY_INCLUDED, HISTORY_INCLUDED)
    metrics += _rank_metrics(config, outputs.POPULARITY_RANKS, POPULARITY)
    metrics += _rank_metrics(
        config, outputs.POPULARITY_RANKS_HISTORY_INCLUDED, POPULARITY, HISTORY_INCLUDED
    )
    for bucket, value in outputs.POPULARITY_BUCKETS.items():
        metrics.append(
            _metric(
                "RetrievalMetric",
                metric_name(config.primary_metric, config.primary_cutoff, bucket),
                quantity=config.primary_metric,
                cutoff=config.primary_cutoff,
                cutoffs=list(config.cutoffs),
                ranks_key=_primary_ranks(config),
                popularity=value,
            )
        )
    for cutoff in config.cutoffs:
        metrics.append(_recommended(COVERAGE, cutoff))
    metrics += [_recommended(q, config.primary_cutoff) for q in (CONCENTRATION, DISTINCT_LISTS)]
    metrics.append(_group_sums(config, _primary_ranks(config)))
    lift = _metric(
        "RetrievalMetric",
        lift_metric(config),
        quantity=config.primary_metric,
        cutoff=config.primary_cutoff,
        cutoffs=list(config.cutoffs),
        ranks_key=_primary_ranks(config),
        reference_key=outputs.POPULARITY_RANKS
        if config.exclude_history
        else outputs.POPULARITY_RANKS_HISTORY_INCLUDED,
    )
    _overall(lift).value_threshold.lower_bound.value = config.min_lift_over_popularity
    metrics.append(lift)
    for metric in metrics:
        if json.loads(metric.config)["name"] == primary_metric(config):
            change = _overall(metric).change_threshold
            change.direction = tfma.MetricDirection.HIGHER_IS_BETTER
            change.absolute.value = -config.max_drop_from_pushed
    return _eval_config(config, metrics, with_baseline=True)


def baseline_eval_config(config: EvaluationConfig) -> tfma.EvalConfig:
    """Returns the metrics of item-kNN and simpler baselines; without thresholds, so no blessing."""
    metrics = _rank_metrics(config, outputs.RANKS)
    metrics += _rank_metrics(config, outputs.RANKS_HISTORY_INCLUDED, HISTORY_INCLUDED)
    recent_ranks = (
        outputs.RECENT_RANKS if config.exclude_history else outputs.RECENT_RANKS_HISTORY_INCLUDED
    )
    for days in outputs.RECENT_DAYS:
        recent = recent_popularity(days)
        metrics += _rank_metrics(config, outputs.RECENT_RANKS[days], recent)
        metrics += _rank_metrics(
            config, outputs.RECENT_RANKS_HISTORY_INCLUDED[days], recent, HISTORY_INCLUDED
        )
        metrics.append(_group_sums(config, recent_ranks[days], recent))
    if not config.exclude_history:  # otherwise it ranks exactly like popularity
        ranks = outputs.PERSONAL_RANKS_HISTORY_INCLUDED
        metrics += _rank_metrics(config, ranks, PERSONAL_FREQUENCY, HISTORY_INCLUDED)
        metrics.append(_group_sums(config, ranks, PERSONAL_FREQUENCY))
    metrics.append(_group_sums(config, _primary_ranks(config)))
    return _eval_config(config, metrics, with_baseline=False)


def _primary_name(config: EvaluationConfig, *qualifiers: str) -> str:
    history = "" if config.exclude_history else HISTORY_INCLUDED
    return metric_name(config.primary_metric, config.primary_cutoff, history, *qualifiers)


def _overall(metric: tfma.MetricConfig) -> tfma.MetricThreshold:
    """Creates a threshold for all people together: a slice may have too few people to judge by."""
    return metric.per_slice_thresholds.add(slicing_specs=[tfma.SlicingSpec()]).threshold


def _primary_ranks(config: EvaluationConfig) -> str:
    return outputs.RANKS if config.exclude_history else outputs.RANKS_HISTORY_INCLUDED


def _rank_metrics(
    config: EvaluationConfig, ranks_key: str, *qualifiers: str
) -> list[tfma.MetricConfig]:
    cutoffs = list(config.cutoffs)
    metrics = [
        _metric(
            "RetrievalMetric",
            metric_name(quantity, cutoff, *qualifiers),
            quantity=quantity,
            cutoff=cutoff,
            cutoffs=cutoffs,
            ranks_key=ranks_key,
        )
        for quantity in CUTOFF_QUANTITIES
        for cutoff in cutoffs
    ]
    name = metric_name(MRR, None, *qualifiers)
    return [
        *metrics,
        _metric("RetrievalMetric", name, quantity=MRR, cutoffs=cutoffs, ranks_key=ranks_key),
    ]


def _recommended(quantity: str, cutoff: int) -> tfma.MetricConfig:
    return _metric(
        "RecommendedMetric", metric_name(quantity, cutoff), quantity=quantity, cutoff=cutoff
    )


def group_sums_metric(config: EvaluationConfig, *qualifiers: str) -> str:
    """Returns the name of the sums of the primary quantity within groups of people."""
    return metric_name(config.primary_metric, config.primary_cutoff, *qualifiers, BY_GROUP)


def _group_sums(config: EvaluationConfig, ranks_key: str, *qualifiers: str) -> tfma.MetricConfig:
    return _metric(
        "GroupSumsMetric",
        group_sums_metric(config, *qualifiers),
        quantity=config.primary_metric,
        cutoff=config.primary_cutoff,
        ranks_key=ranks_key,
    )


def _metric(class_name: str, name: str, **config: Any) -> tfma.MetricConfig:
    return tfma.MetricConfig(
        class_name=class_name, module=_MODULE, config=json.dumps({"name": name, **config})
    )


def _eval_config(
    config: EvaluationConfig, metrics: list[tfma.MetricConfig], *, with_baseline: bool
) -> tfma.EvalConfig:
    models = [tfma.ModelSpec(name=CANDIDATE, signature_name="evaluate")]
    if with_baseline:
        models.append(tfma.ModelSpec(name=BASELINE, signature_name="evaluate", is_baseline=True))
    eval_config = tfma.EvalConfig(
        model_specs=models,
        slicing_specs=[
            tfma.SlicingSpec(),
            tfma.SlicingSpec(feature_keys=[features.HISTORY_LENGTH_BUCKET]),
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )
    if config.confidence_intervals:
        eval_config.options.compute_confidence_intervals.value = True
        # The jackknife puts each person into one of 20 groups. TFMA's bootstrap would add each
        # person to 20 resamples, which would take most of the evaluation's time.
        eval_config.options.confidence_intervals.method = tfma.ConfidenceIntervalOptions.JACKKNIFE
    return eval_config
