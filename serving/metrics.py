"""What the server measures, in Prometheus' terms."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From the overhead of an empty request to the point where a person gives up.
_LATENCY_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The server's metrics, in a registry of their own.

    Labels only take values that exist on the server (a request for an unknown
    model counts under an empty name), so that no client can grow them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
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
            "Requests merged into one run of the model.",
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
            "serving_queued_requests", "Requests that wait for a thread.", registry=self.registry
        )
        self.queued_work = Gauge(
            "serving_queued_work",
            "Work that waits for a thread, in rows of a short answer.",
            registry=self.registry,
        )
        self.held_bytes = Gauge(
            "serving_queued_bytes",
            "Bytes held by requests that are read, decoded, queued, run or answered.",
            registry=self.registry,
        )
        self.refused_requests = Counter(
            "serving_refused_requests",
            "Requests refused because the server had too much to do.",
            ["reason"],
            registry=self.registry,
        )
        self.abandoned_requests = Counter(
            "serving_abandoned_requests",
            "Requests whose caller went away before the answer.",
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
            "Requests that have begun to arrive and are not answered.",
            registry=self.registry,
        )
        self.model_loads = Counter(
            "serving_model_loads",
            "Versions loaded, or that failed to load.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.version_available = Gauge(
            "serving_model_version_available",
            "1 for each version that serves.",
            ["model", "version"],
            registry=self.registry,
        )
        self.release_requests = Counter(
            "serving_release_requests",
            "Predict requests that a version was asked, by its label and the status code.",
            ["model", "label", "code"],
            registry=self.registry,
        )
        self.release_latency = Histogram(
            "serving_release_request_seconds",
            "Time of a version from a request that has arrived to its result.",
            ["model", "label"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.release_empty = Counter(
            "serving_release_empty_answers",
            "Answers without an item; of a request with many rows, their share.",
            ["model", "label"],
            registry=self.registry,
        )
        self.release_fallbacks = Counter(
            "serving_release_fallbacks",
            "Requests that the stable version answered because the canary did not.",
            ["model"],
            registry=self.registry,
        )
        self.canary_rollbacks = Counter(
            "serving_canary_rollbacks",
            "Canaries that this server has taken back.",
            ["model", "cause"],
            registry=self.registry,
        )
        self.release_version = Gauge(
            "serving_release_version",
            "The version that serves as stable, or as canary.",
            ["model", "label"],
            registry=self.registry,
        )
        self.release_problem = Gauge(
            "serving_release_problem",
            "1 if the release state cannot be read or followed; the log says why.",
            ["model"],
            registry=self.registry,
        )
        self.request_samples = Counter(
            "serving_request_samples",
            "Rows of requests taken for the request samples: written, or why not.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.histories = Counter(
            "serving_histories", "Histories recommended for.", ["model"], registry=self.registry
        )
        self.empty_histories = Counter(
            "serving_empty_histories",
            "Histories without one known item; they get the popular items.",
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

    def forget_release(self, model: str) -> None:
        """Drops what is said of the release of a model that is no longer configured."""
        for gauge in (self.release_version, self.release_problem):
            gauge.remove_by_labels({"model": model})

    def forget_version(self, model: str, version: str) -> None:
        """Drops the gauge of a version that no longer serves."""
        self.version_available.remove(model, version)
