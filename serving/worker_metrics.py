"""The metrics of all workers of a server as one page.

prometheus_client keeps the values of each worker in files that every other one reads: counters
and histograms are added up, and go on counting when a worker is started again. Processor time
and memory are each worker's own.
"""

import functools
from collections.abc import Collection, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.worker_board import State, Worker


def registry_of_all(worker: Worker, only_if_set: Collection[str]) -> CollectorRegistry:
    """What every worker shows.

    Args:
      worker: The one that is asked.
      only_if_set: Gauges of which 0 means that there is nothing to show.
    """
    registry = CollectorRegistry()
    registry.register(_Added(worker, only_if_set))
    registry.register(_Processes(worker))
    return registry


class _Added(Collector):
    """What the workers count, added up."""

    def __init__(self, worker: Worker, only_if_set: Collection[str]):
        self._files = MultiProcessCollector(None, str(worker.folder))
        self._only_if_set = only_if_set

    def describe(self) -> Iterable[Metric]:
        return ()  # the files need not be there yet

    def collect(self) -> Iterable[Metric]:
        for metric in self._files.collect():
            if metric.name in self._only_if_set:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


class _Processes(Collector):
    """Which workers there are, and what their processes use."""

    def __init__(self, worker: Worker):
        self._worker = worker

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        serving = GaugeMetricFamily(
            "serving_worker_ready", "1 for a worker that serves every model.", labels=["worker"]
        )
        restarts = CounterMetricFamily(
            "serving_worker_restarts",
            "Workers that ended and were started again.",
            labels=["worker"],
        )
        processes: dict[str, Metric] = {}
        for number, seat in enumerate(self._worker.board.seats()):
            labels = {"worker": str(number)}
            serving.add_metric([str(number)], seat.state == State.READY)
            restarts.add_metric([str(number)], seat.restarts)
            if not seat.pid:
                continue
            process = ProcessCollector(pid=functools.partial(int, seat.pid), registry=None)
            for metric in process.collect():
                known = processes.setdefault(metric.name, metric)
                samples = [sample._replace(labels=labels) for sample in metric.samples]
                known.samples = [*([] if known is metric else known.samples), *samples]
        yield from (serving, restarts, *processes.values())
