"""Retrieval metrics against hand-computed values."""

import zlib

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from components.evaluator import metrics
from contract import evaluation_outputs as outputs


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


def _recommended(quantity, cutoff=2):
    return metrics.RecommendedMetric(quantity, cutoff, f"{quantity}_at_{cutoff}")


def test_coverage_counts_distinct_items_within_the_cutoff():
    assert _compute(_recommended("coverage"), _ELEMENTS) == pytest.approx(4 / 8)  # 1, 2 and 3, 4


def test_distinct_lists_are_1_if_everybody_gets_the_same():
    assert _compute(_recommended("distinct_lists"), _ELEMENTS) == pytest.approx(4 / 2)
    same = [_element(recommended=[5, 6, 7], catalogue_size=8)] * 3
    assert _compute(_recommended("distinct_lists", 3), same) == 1.0


def test_concentration_is_the_share_of_a_hundredth_of_the_catalogue():
    # Two items of 200: 3 is in all three lists, 1 in two, of nine places.
    lists = [[1, 3, 2], [3, 1, 4], [5, 3, 6]]
    people = [_element(recommended=items, catalogue_size=200) for items in lists]
    assert _compute(_recommended("concentration", 3), people) == pytest.approx(5 / 9)
    # At least one item counts, however small the catalogue is.
    assert _compute(_recommended("concentration"), _ELEMENTS) == pytest.approx(1 / 4)


def test_recommended_items_are_counted_in_place():
    computation = next(iter(_recommended("coverage").computations(model_names=[""])))
    accumulator = computation.combiner.create_accumulator()
    items = accumulator[0]
    for element in _ELEMENTS:
        accumulator = computation.combiner.add_input(accumulator, element)
    assert accumulator[0] is items
    assert items == {1: 1, 2: 1, 3: 1, 4: 1}


def _person(user, ranks):
    features = {"user_id": np.asarray([user.encode()])}
    return metric_types.StandardMetricInputs(
        predictions={"ranks": np.asarray(ranks)}, features=features
    )


def test_group_sums_put_a_person_into_the_same_group_for_every_model():
    metric = metrics.GroupSumsMetric("recall", 50, "ranks", "recall_at_50_by_group")
    people = [_person("ann", [1, 60]), _person("bob", [2, 3]), _person("no targets", [0])]
    sums = outputs.group_sums_from_bytes(_compute(metric, people))
    assert sums.shape == (2, outputs.NUM_GROUPS)
    assert sums.sum(axis=1).tolist() == [1.5, 2.0]
    assert sums[:, zlib.crc32(b"ann") % outputs.NUM_GROUPS].tolist() == [0.5, 1.0]
    assert sums[:, zlib.crc32(b"bob") % outputs.NUM_GROUPS].tolist() == [1.0, 1.0]


def test_unknown_quantity_is_refused():
    with pytest.raises(ValueError, match=r"'recal' at 50"):
        metrics.RetrievalMetric("recal", [50], "x", cutoff=50)
    with pytest.raises(ValueError, match="'recall' at 20"):
        metrics.RetrievalMetric("recall", [50], "x", cutoff=20)
