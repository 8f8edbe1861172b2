"""TFMA metrics over the exact ranks that a model's ``evaluate`` signature returns.

The signature ranks a person's held-out items against the whole catalogue, so a
metric needs only those few ranks and no [B, N] tensor leaves the graph. TFMA adds
slices, confidence intervals, baselines and thresholds.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

# The baseline may be a pushed version with a ScaNN index. This import registers the ops of the
# index in every Beam worker that evaluates it.
from scann.scann_ops.py import scann_ops  # noqa: F401
from tensorflow_model_analysis.metrics import metric_types

from contract import evaluation_outputs as outputs
from contract.features import USER_ID
from contract.metric_names import (
    CONCENTRATION,
    COVERAGE,
    CUTOFF_QUANTITIES,
    DISTINCT_LISTS,
    MRR,
    metric_name,
)
from model.metrics import per_person, quantity_names

_TOP_SHARE = 0.01  # of the catalogue, for the concentration
_PRIVATE = "_"  # TFMA leaves metrics whose names start like this out of its results


class _RankMeans(beam.CombineFn):
    """The mean over people of ``model.metrics.per_person``."""

    def __init__(
        self,
        key: metric_types.MetricKey,
        cutoffs: tuple[int, ...],
        ranks_key: str,
        popularity: int,
    ):
        self._key = key
        self._cutoffs = cutoffs
        self._ranks_key = ranks_key
        self._popularity = popularity
        self._size = len(quantity_names(cutoffs))

    def create_accumulator(self) -> tuple[np.ndarray, int]:
        return np.zeros(self._size), 0

    def add_input(
        self, accumulator: tuple[np.ndarray, int], element: metric_types.StandardMetricInputs
    ) -> tuple[np.ndarray, int]:
        prediction = _prediction(element, self._key.model_name)
        ranks = np.asarray(prediction[self._ranks_key]).reshape(-1)
        if self._popularity:
            buckets = np.asarray(prediction[outputs.TARGET_POPULARITY]).reshape(-1)
            ranks = np.where(buckets == self._popularity, ranks, 0)
        values = per_person(ranks[np.newaxis, :], self._cutoffs)  # no row if there is no target
        return accumulator[0] + values.sum(axis=0), accumulator[1] + len(values)

    def merge_accumulators(
        self, accumulators: Iterable[tuple[np.ndarray, int]]
    ) -> tuple[np.ndarray, int]:
        sums, counts = zip(*accumulators, strict=True)
        return np.sum(sums, axis=0), sum(counts)

    def extract_output(
        self, accumulator: tuple[np.ndarray, int]
    ) -> dict[metric_types.MetricKey, np.ndarray]:
        sums, count = accumulator
        return {self._key: sums / count if count else np.full(self._size, np.nan)}


class _GroupSums(beam.CombineFn):
    """Sums of a quantity within groups of people, for paired comparisons."""

    def __init__(
        self,
        key: metric_types.MetricKey,
        cutoffs: tuple[int, ...],
        position: int,
        ranks_key: str,
    ):
        self._key = key
        self._cutoffs = cutoffs
        self._position = position
        self._ranks_key = ranks_key

    def create_accumulator(self) -> np.ndarray:
        return np.zeros([2, outputs.NUM_GROUPS])

    def add_input(
        self, accumulator: np.ndarray, element: metric_types.StandardMetricInputs
    ) -> np.ndarray:
        prediction = _prediction(element, self._key.model_name)
        ranks = np.asarray(prediction[self._ranks_key]).reshape(1, -1)
        values = per_person(ranks, self._cutoffs)  # no row if there is no target
        if len(values):
            person = np.asarray(element.features[USER_ID]).reshape(-1)[0]
            group = zlib.crc32(person) % outputs.NUM_GROUPS
            accumulator[:, group] += values[0, self._position], 1.0
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[np.ndarray]) -> np.ndarray:
        return np.sum(list(accumulators), axis=0)

    def extract_output(self, accumulator: np.ndarray) -> dict[metric_types.MetricKey, bytes]:
        # As bytes, because TFMA would compute a confidence interval for numbers.
        return {self._key: outputs.group_sums_to_bytes(accumulator)}


class _Recommended(beam.CombineFn):
    """Counts how often each item was recommended, for the metrics of ``RecommendedMetric``."""

    def __init__(self, keys: Mapping[str, metric_types.MetricKey], cutoff: int):
        self._keys = keys
        self._model_name = next(iter(keys.values())).model_name
        self._cutoff = cutoff

    def create_accumulator(self) -> tuple[Counter[int], int]:
        return Counter(), 0

    def add_input(
        self, accumulator: tuple[Counter[int], int], element: metric_types.StandardMetricInputs
    ) -> tuple[Counter[int], int]:
        prediction = _prediction(element, self._model_name)
        items = np.asarray(prediction[outputs.RECOMMENDED]).reshape(-1)[: self._cutoff]
        size = int(np.asarray(prediction[outputs.CATALOGUE_SIZE]).reshape(-1)[0])
        # Update in place, because a copy of the counts for every person would make this quadratic.
        accumulator[0].update(items[items > 0].tolist())
        return accumulator[0], max(accumulator[1], size)

    def merge_accumulators(
        self, accumulators: Iterable[tuple[Counter[int], int]]
    ) -> tuple[Counter[int], int]:
        total, largest = Counter[int](), 0
        for items, size in accumulators:
            total.update(items)
            largest = max(largest, size)
        return total, largest

    def extract_output(
        self, accumulator: tuple[Counter[int], int]
    ) -> dict[metric_types.MetricKey, float]:
        items, size = accumulator
        top = sorted(items.values(), reverse=True)[: max(1, round(size * _TOP_SHARE))]
        found = {
            COVERAGE: len(items) / size if size else float("nan"),
            CONCENTRATION: sum(top) / items.total() if items else float("nan"),
            DISTINCT_LISTS: len(items) / self._cutoff if size else float("nan"),
        }
        return {key: found[name] for name, key in self._keys.items()}


class RetrievalMetric(tfma.metrics.Metric):
    """The mean over people of a quantity computed from the ranks.

    Args:
      quantity: ``recall``, ``ndcg``, ``hit_rate`` or ``mrr``.
      cutoffs: All N in use. Metrics with the same ``cutoffs`` share a pass over the data.
      name: Metric name.
      cutoff: N, one of ``cutoffs``; ``mrr`` ignores it.
      ranks_key: The output of the signature that contains the ranks.
      reference_key: An output with other ranks for the same people. If given, the metric is
        the lift: its value minus the value for those ranks.
      popularity: If given, only targets of this popularity bucket count.

    Raises:
      ValueError: if there is no such quantity, or ``cutoff`` is not one of ``cutoffs``.
    """

    def __init__(
        self,
        quantity: str,
        cutoffs: list[int],
        name: str,
        cutoff: int = 0,
        ranks_key: str = outputs.RANKS,
        reference_key: str = "",
        popularity: int = 0,
    ):
        names = quantity_names(cutoffs)
        column = metric_name(quantity, None if quantity == MRR else cutoff)
        if column not in names:
            raise ValueError(
                f"expected {MRR} or one of {CUTOFF_QUANTITIES} at one of {list(cutoffs)}, "
                f"received {quantity!r} at {cutoff}"
            )
        super().__init__(
            _rank_computations,
            quantity=quantity,
            cutoffs=list(cutoffs),
            cutoff=cutoff,
            ranks_key=ranks_key,
            reference_key=reference_key,
            popularity=popularity,
            name=name,
            position=names.index(column),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["position"]
        return config


class GroupSumsMetric(tfma.metrics.Metric):
    """A quantity summed within groups of people, for a paired test; see ``model.paired_test``.

    Args:
      quantity: As in ``RetrievalMetric``.
      cutoff: N.
      ranks_key: The output of the signature that contains the ranks.
      name: Metric name.
    """

    def __init__(self, quantity: str, cutoff: int, ranks_key: str, name: str):
        super().__init__(
            _group_computations, quantity=quantity, cutoff=cutoff, ranks_key=ranks_key, name=name
        )


class RecommendedMetric(tfma.metrics.Metric):
    """A metric of the first ``cutoff`` recommended items of all people together.

    Args:
      quantity: ``coverage``, the share of the catalogue that was recommended to anybody;
        ``concentration``, the share of all recommendations that goes to the most
        recommended hundredth of the catalogue; or ``distinct_lists``, the number of
        different recommended items divided by ``cutoff``, which is 1 if everybody gets the
        same items.
      cutoff: N.
      name: Metric name.
    """

    def __init__(self, quantity: str, cutoff: int, name: str):
        super().__init__(_recommended_computations, quantity=quantity, cutoff=cutoff, name=name)


def _rank_computations(
    cutoffs: list[int],
    ranks_key: str,
    reference_key: str,
    popularity: int,
    position: int,
    name: str,
    model_names: list[str] | None = None,
    **_: Any,
) -> metric_types.MetricComputations:
    computations: list[Any] = []
    for model_name in model_names or [""]:
        sources = []
        for source in filter(None, (ranks_key, reference_key)):
            base = metric_types.MetricKey(
                name=f"{_PRIVATE}{source}_{popularity}_{'_'.join(map(str, cutoffs))}",
                model_name=model_name,
            )
            combiner = _RankMeans(base, tuple(cutoffs), source, popularity)
            computations.append(
                metric_types.MetricComputation(keys=[base], preprocessors=None, combiner=combiner)
            )
            sources.append(base)
        key = metric_types.MetricKey(name=name, model_name=model_name)

        def result(
            metrics: dict[metric_types.MetricKey, Any],
            sources: list[metric_types.MetricKey] = sources,
            key: metric_types.MetricKey = key,
        ) -> dict[metric_types.MetricKey, float]:
            values = [float(metrics[source][position]) for source in sources]
            return {key: values[0] - values[1] if len(values) == 2 else values[0]}

        computations.append(metric_types.DerivedMetricComputation(keys=[key], result=result))
    return computations


def _group_computations(
    quantity: str,
    cutoff: int,
    ranks_key: str,
    name: str,
    model_names: list[str] | None = None,
    **_: Any,
) -> metric_types.MetricComputations:
    position = quantity_names([cutoff]).index(metric_name(quantity, cutoff))
    keys = [
        metric_types.MetricKey(name=name, model_name=model_name)
        for model_name in model_names or [""]
    ]
    return [
        metric_types.MetricComputation(
            keys=[key],
            preprocessors=[metric_types.FeaturePreprocessor([USER_ID])],
            combiner=_GroupSums(key, (cutoff,), position, ranks_key),
        )
        for key in keys
    ]


def _recommended_computations(
    quantity: str, cutoff: int, name: str, model_names: list[str] | None = None, **_: Any
) -> metric_types.MetricComputations:
    computations: list[Any] = []
    for model_name in model_names or [""]:
        # All three quantities share one pass over the data.
        sources = {
            source: metric_types.MetricKey(
                name=f"{_PRIVATE}{source}_{cutoff}", model_name=model_name
            )
            for source in (COVERAGE, CONCENTRATION, DISTINCT_LISTS)
        }
        computations.append(
            metric_types.MetricComputation(
                keys=list(sources.values()),
                preprocessors=None,
                combiner=_Recommended(sources, cutoff),
            )
        )
        key = metric_types.MetricKey(name=name, model_name=model_name)

        def result(
            metrics: dict[metric_types.MetricKey, Any],
            source: metric_types.MetricKey = sources[quantity],
            key: metric_types.MetricKey = key,
        ) -> dict[metric_types.MetricKey, float]:
            return {key: metrics[source]}

        computations.append(metric_types.DerivedMetricComputation(keys=[key], result=result))
    return computations


def _prediction(element: metric_types.StandardMetricInputs, model_name: str) -> dict[str, Any]:
    """Returns the outputs of ``model_name``; TFMA nests them only if there are several models."""
    prediction = element.prediction
    nested = prediction.get(model_name) if model_name else None
    return nested if isinstance(nested, dict) else prediction
