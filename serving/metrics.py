"""The server's Prometheus metrics."""

import re
from typing import Final

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.openmetrics import exposition as openmetrics

from serving.worker_board import Worker
from serving.worker_metrics import registry_of_all

# Gauges whose label values appear and disappear.
_AVAILABLE = "serving_model_version_available"
_RELEASE_VERSION = "serving_release_version"

# How the gauges of several workers are combined.
_SUM: Final = "livesum"
_SMALLEST: Final = "livemin"
_LARGEST: Final = "livemax"

# From the overhead of an empty request up to the time at which a person gives up.
_LATENCY_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


# The names of TF Serving's metrics in Prometheus: its paths, with colons in place of slashes
# (util/prometheus_exporter.cc).
_TF_SERVING = ":tensorflow:serving:"
# Its buckets in microseconds: 33 of them, the first at 10, each 1.8 times the one before
# (servables/tensorflow/util.cc), printed with six digits.
_TF_SERVING_BUCKETS = tuple(float(f"{10 * 1.8**i:.6g}") for i in range(33))
_MICROSECONDS = 1e6  # in a second


class Metrics:
    """The server's metrics, in their own registry.

    In addition to the server's own names, they include those names of TF Serving's that dashboards
    made for it use: request_count, request_latency and runtime_latency.

    Labels only take values that exist on the server (a request for an unknown model is counted
    under an empty name), so that clients cannot create new series.

    Args:
      worker: Number of this process among the workers of one server, whose metrics are shown
        together; None if there is only one.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.registry = CollectorRegistry()
        if worker is None:
            self._shown = self.registry
            ProcessCollector(registry=self.registry)
        else:
            self._shown = registry_of_all(worker, only_if_set=(_AVAILABLE, _RELEASE_VERSION))
        self.requests = Counter(
            "serving_requests",
            "Requests answered, by status code.",
            ["model", "api", "method", "code"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "serving_request_seconds",
            "Time from a decoded predict request to its result.",
            ["model", "signature"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.run_latency = Histogram(
            "serving_model_run_seconds",
            "Time in the model itself.",
            ["model", "signature"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "serving_batch_requests",
            "Number of requests merged into one run of the model.",
            ["model"],
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "serving_queue_seconds",
            "Time that rows of a request waited for a thread.",
            ["model"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.queued_requests = Gauge(
            "serving_queued_requests",
            "Requests that are waiting for a thread.",
            registry=self.registry,
            multiprocess_mode=_SUM,
        )
        self.queued_work = Gauge(
            "serving_queued_work",
            "Work that is waiting for a thread, in rows with a short answer.",
            registry=self.registry,
            multiprocess_mode=_SUM,
        )
        self.held_bytes = Gauge(
            "serving_queued_bytes",
            "Bytes held by requests that are being read, decoded, queued, run or answered.",
            registry=self.registry,
            multiprocess_mode=_SUM,
        )
        self.refused_requests = Counter(
            "serving_refused_requests",
            "Requests refused because the server had too much to do.",
            ["reason"],
            registry=self.registry,
        )
        self.abandoned_requests = Counter(
            "serving_abandoned_requests",
            "Requests whose caller disconnected before the answer.",
            ["stage"],
            registry=self.registry,
        )
        self.decode_latency = Histogram(
            "serving_decode_seconds",
            "Time to decode a predict request.",
            ["api"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.encode_latency = Histogram(
            "serving_encode_seconds",
            "Time to encode the answer of a predict request.",
            ["api"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "serving_requests_in_flight",
            "Requests that have begun to arrive and are not yet answered.",
            registry=self.registry,
            multiprocess_mode=_SUM,
        )
        self.live_changes = Counter(
            "serving_live_changes",
            "Items changed in the live catalogue through this server.",
            ["model"],
            registry=self.registry,
        )
        self.live_items = Gauge(
            "serving_live_items",
            "Items that were added or changed since the push and can be found.",
            ["model"],
            multiprocess_mode=_LARGEST,
            registry=self.registry,
        )
        self.live_replaced = Gauge(
            "serving_live_replaced_items",
            "Pushed items that were changed or removed since the push.",
            ["model"],
            multiprocess_mode=_LARGEST,
            registry=self.registry,
        )
        self.live_share = Gauge(
            "serving_live_changed_ratio",
            "Changed items as a share of the pushed ones; a large share calls for item refresh.",
            ["model"],
            multiprocess_mode=_LARGEST,
            registry=self.registry,
        )
        self.live_position = Gauge(
            "serving_live_log_position",
            "Position in the log of changes that all versions have reached.",
            ["model"],
            multiprocess_mode=_SMALLEST,
            registry=self.registry,
        )
        self.live_followed = Gauge(
            "serving_live_followed_timestamp_seconds",
            "When the log of changes was last known to be applied; 0 if applying it failed.",
            ["model"],
            multiprocess_mode=_SMALLEST,
            registry=self.registry,
        )
        self.model_loads = Counter(
            "serving_model_loads",
            "Attempts to load a version, by whether they succeeded.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.version_available = Gauge(
            _AVAILABLE,
            "1 for each version that is being served.",
            ["model", "version"],
            registry=self.registry,
            multiprocess_mode=_SMALLEST,
        )
        self.release_requests = Counter(
            "serving_release_requests",
            "Predict requests sent to a version, by its label and the status code.",
            ["model", "label", "code"],
            registry=self.registry,
        )
        self.release_latency = Histogram(
            "serving_release_request_seconds",
            "Time from the arrival of a request to the result of a version.",
            ["model", "label"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.release_empty = Counter(
            "serving_release_empty_answers",
            "Answers without an item; a request with many rows counts by their share.",
            ["model", "label"],
            registry=self.registry,
        )
        self.release_fallbacks = Counter(
            "serving_release_fallbacks",
            "Requests that the stable version answered because the canary failed.",
            ["model"],
            registry=self.registry,
        )
        self.canary_rollbacks = Counter(
            "serving_canary_rollbacks",
            "Canaries that this server has withdrawn.",
            ["model", "cause"],
            registry=self.registry,
        )
        self.release_version = Gauge(
            _RELEASE_VERSION,
            "The version that is served as stable, or as canary.",
            ["model", "label"],
            registry=self.registry,
            multiprocess_mode=_LARGEST,
        )
        self.release_problem = Gauge(
            "serving_release_problem",
            "1 if the release state cannot be read or followed; the log says why.",
            ["model"],
            registry=self.registry,
            multiprocess_mode=_LARGEST,
        )
        self.request_samples = Counter(
            "serving_request_samples",
            "Rows of requests chosen for the request samples: written, or why not.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.histories = Counter(
            "serving_histories", "Histories in predict requests.", ["model"], registry=self.registry
        )
        self.empty_histories = Counter(
            "serving_empty_histories",
            "Histories without any known item; they get the popular items.",
            ["model"],
            registry=self.registry,
        )
        self.history_items = Counter(
            "serving_history_items", "Items in histories.", ["model"], registry=self.registry
        )
        self.unknown_history_items = Counter(
            "serving_unknown_history_items",
            "Items in histories that the model does not know.",
            ["model"],
            registry=self.registry,
        )

        self.tf_request_count = Counter(
            _TF_SERVING + "request_count",
            "The total number of requests.",
            ["model_name", "status"],
            registry=self.registry,
        )
        self.tf_request_latency = Histogram(
            _TF_SERVING + "request_latency",
            "Wall time (in microseconds) of requests that were answered.",
            ["model_name", "API", "entrypoint"],
            buckets=_TF_SERVING_BUCKETS,
            registry=self.registry,
        )
        self.tf_runtime_latency = Histogram(
            _TF_SERVING + "runtime_latency",
            "Wall time (in microseconds) of runs of a model.",
            ["model_name", "API", "runtime"],
            buckets=_TF_SERVING_BUCKETS,
            registry=self.registry,
        )

    def page(self, *, is_openmetrics: bool = False) -> bytes:
        """Returns all metrics, in OpenMetrics or in Prometheus' own text format."""
        form = openmetrics if is_openmetrics else prometheus_client
        page = form.generate_latest(self._shown)
        # In OpenMetrics, the client library writes the names of samples with underscores in place
        # of colons, but the names in their type lines with colons.
        for metric in (self.tf_request_count, self.tf_request_latency, self.tf_runtime_latency):
            name = metric._name.encode()
            page = page.replace(b"\n" + name.replace(b":", b"_"), b"\n" + name)
        # The library requires the names of counters to end in _total; TF Serving's do not. In
        # OpenMetrics, only metrics that are not counters may have other names.
        name = self.tf_request_count._name.encode()
        page = page.replace(name + b"_total", name)
        page = re.sub(rb"(?m)^(# \w+ )?%b_created.*\n" % name, b"", page)
        if is_openmetrics:
            page = page.replace(b"# TYPE %b counter" % name, b"# TYPE %b unknown" % name)
        return page

    def observe_request(self, model: str, api: str, method: str, code: str, seconds: float) -> None:
        """Counts a request under TF Serving's names, if TF Serving counts it.

        Args:
          model: Name of the model; empty if there is none.
          api: ``REST`` or ``gRPC``.
          method: The method, as passed to ``RequestLog.record``.
          code: Name of the status code.
          seconds: Time from its arrival to its answer.
        """
        if api == "gRPC" and method != "Predict":
            return
        self.tf_request_count.labels(model, code).inc()
        if code == "OK":
            # Over REST, TF Serving names only the methods of a model.
            name = method if method in ("Predict", "predict") else ""
            self.tf_request_latency.labels(model, name, api.upper()).observe(
                seconds * _MICROSECONDS
            )

    def observe_run(self, model: str, signature: str, seconds: float) -> None:
        """Records the time of one run of a model."""
        self.run_latency.labels(model, signature).observe(seconds)
        self.tf_runtime_latency.labels(model, "Predict", "TF1").observe(seconds * _MICROSECONDS)

    def first_value(self, path: str) -> int:
        """Returns the first value of a counter or gauge, for ``metric_names`` of a reload.

        Args:
          path: TF Serving's name of the metric, such as ``/tensorflow/serving/request_count``.

        Returns:
          The value; 0 if there is no such metric.
        """
        name = path.replace("/", ":")
        for metric in self.registry.collect():
            if metric.name == name and metric.type in ("counter", "gauge"):
                return int(metric.samples[0].value) if metric.samples else 0
        return 0

    def forget_release(self, model: str) -> None:
        """Drops the release metrics of a model that is no longer configured."""
        for gauge in (self.release_version, self.release_problem):
            gauge.remove_by_labels({"model": model})

    def set_release_version(self, model: str, label: str, version: int | None) -> None:
        """Records which version has a label; None if no version has it."""
        if version is None:
            _remove(self.release_version, model, label)
        else:
            self.release_version.labels(model, label).set(version)

    def forget_version(self, model: str, version: str) -> None:
        """Drops the gauge of a version that is no longer served."""
        _remove(self.version_available, model, version)


def _remove(gauge: Gauge, *labels: str) -> None:
    # A gauge that other workers see cannot be removed; gauges that are 0 are not shown.
    gauge.labels(*labels).set(0)
    gauge.remove(*labels)
