"""Combines the metrics of all workers of a server on one page.

prometheus_client keeps the values of each worker in files that all workers read. Counters and
histograms are summed, and a restarted worker continues them. Processor time and memory are reported
per worker.
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
    """Creates the registry that every worker shows.

    Args:
      worker: The worker that answers.
      only_if_set: Gauges that are shown only if they are not 0.
    """
    registry = CollectorRegistry()
    registry.register(_Added(worker, only_if_set))
    registry.register(_Processes(worker))
    return registry


class _Added(Collector):
    """Sums the workers' metrics."""

    def __init__(self, worker: Worker, only_if_set: Collection[str]):
        self._files = MultiProcessCollector(None, str(worker.folder))
        self._only_if_set = only_if_set

    def describe(self) -> Iterable[Metric]:
        return ()  # the files may not exist yet

    def collect(self) -> Iterable[Metric]:
        for metric in self._files.collect():
            if metric.name in self._only_if_set:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


class _Processes(Collector):
    """Reports which workers exist, and the resources that their processes use."""

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
            "Workers that ended and were restarted.",
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
