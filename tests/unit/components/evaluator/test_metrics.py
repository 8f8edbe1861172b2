"""Retrieval metrics against hand-computed values."""

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from components.evaluator import metrics


def _element(**prediction):
    prediction = {key: np.asarray(value) for key, value in prediction.items()}
    return metric_types.StandardMetricInputs(prediction=prediction)


def _compute(metric, elements):
    """Runs a metric's computations as TFMA does, without Beam."""
    computed = {}
    for computation in metric.computations(eval_config=tfma.EvalConfig(), model_names=[""]):
        if isinstance(computation, metric_types.MetricComputation):
            combiner = computation.combiner
            halves = []
            for part in (elements[:1], elements[1:]):  # two workers
                accumulator = combiner.create_accumulator()
                for element in part:
                    accumulator = combiner.add_input(accumulator, element)
                halves.append(accumulator)
            computed.update(combiner.extract_output(combiner.merge_accumulators(halves)))
        else:
            computed.update(computation.result(computed))
    return computed[metric_types.MetricKey(name=metric.name)]


_ELEMENTS = [
    _element(
        ranks=[1, 30],
        popularity_ranks=[40, 2],
        target_popularity=[1, 3],
        recommended=[1, 2, 3],
        catalogue_size=8,
    ),
    _element(
        ranks=[60, 0],
        popularity_ranks=[3, 0],
        target_popularity=[3, 0],
        recommended=[3, 4, 9],
        catalogue_size=8,
    ),
]


def test_metric_is_a_mean_over_people():
    metric = metrics.RetrievalMetric("recall", [10, 50], "recall_at_50", cutoff=50)
    assert _compute(metric, _ELEMENTS) == pytest.approx((1.0 + 0.0) / 2)
    metric = metrics.RetrievalMetric("mrr", [10, 50], "mrr")
    assert _compute(metric, _ELEMENTS) == pytest.approx((1.0 + 1 / 60) / 2)


def test_lift_is_the_difference_on_the_same_people():
    metric = metrics.RetrievalMetric(
        "recall", [10, 50], "lift", cutoff=10, reference_key="popularity_ranks"
    )
    assert _compute(metric, _ELEMENTS) == pytest.approx((0.5 + 0.0) / 2 - (0.5 + 1.0) / 2)


def test_popularity_bucket_counts_only_its_targets_and_their_people():
    head = metrics.RetrievalMetric("recall", [50], "recall_head", cutoff=50, popularity=1)
    assert _compute(head, _ELEMENTS) == pytest.approx(1.0)  # the second person has none
    tail = metrics.RetrievalMetric("recall", [50], "recall_tail", cutoff=50, popularity=3)
    assert _compute(tail, _ELEMENTS) == pytest.approx((1.0 + 0.0) / 2)


def test_coverage_counts_distinct_items_within_the_cutoff():
    metric = metrics.CoverageMetric(2, "coverage_at_2")
    assert _compute(metric, _ELEMENTS) == pytest.approx(4 / 8)  # 1, 2 and 3, 4


def test_coverage_does_not_copy_what_it_has_counted_for_every_person():
    (computation,) = metrics.CoverageMetric(2, "coverage_at_2").computations(
        eval_config=tfma.EvalConfig(), model_names=[""]
    )
    accumulator = computation.combiner.create_accumulator()
    items = accumulator[0]
    for element in _ELEMENTS:
        accumulator = computation.combiner.add_input(accumulator, element)
    assert accumulator[0] is items
    assert items == {1, 2, 3, 4}


def test_unknown_quantity_is_refused():
    with pytest.raises(ValueError, match=r"'recal' at 50"):
        metrics.RetrievalMetric("recal", [50], "x", cutoff=50)
    with pytest.raises(ValueError, match="'recall' at 20"):
        metrics.RetrievalMetric("recall", [50], "x", cutoff=20)
