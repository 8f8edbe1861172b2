"""Metrics of the history store; no label or value identifies a person."""

from prometheus_client import Counter, Histogram

from serving.metrics import Metrics

# From the read of a local file up to a store that cannot be reached.
_LOOKUP_BUCKETS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 5.0),
)


class HistoryMetrics:
    """Metrics of a server that keeps histories.

    Args:
      metrics: The server's metrics, which these are added to.
    """

    def __init__(self, metrics: Metrics):
        registry = metrics.registry
        self.events = Counter(
            "serving_history_store_events",
            "New events that this server has stored.",
            ["model"],
            registry=registry,
        )
        self.erased = Counter(
            "serving_history_store_erased",
            "People of whom this server has erased something.",
            ["model"],
            registry=registry,
        )
        self.expired = Counter(
            "serving_history_store_expired",
            "People some of whose events this server has removed as expired.",
            ["model"],
            registry=registry,
        )
        self.failures = Counter(
            "serving_history_store_failures",
            "Reads, writes, erasures and removals that the store could not carry out.",
            registry=registry,
        )
        self.lookups = Counter(
            "serving_history_store_lookups",
            "People whose histories were looked up for predict requests.",
            ["model"],
            registry=registry,
        )
        self.misses = Counter(
            "serving_history_store_misses",
            "People looked up who have no stored event; they get the popular items.",
            ["model"],
            registry=registry,
        )
        self.lookup_latency = Histogram(
            "serving_history_store_lookup_seconds",
            "Time to look up the people of one predict request.",
            ["model"],
            buckets=_LOOKUP_BUCKETS,
            registry=registry,
        )
