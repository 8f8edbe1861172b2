"""Admission control: decides which predict requests are accepted, before they cost anything."""

import contextlib
import dataclasses
from collections.abc import Hashable, Iterator, Mapping

import numpy as np

from serving.batching import Runner
from serving.config import ServerConfig
from serving.errors import unavailable
from serving.metrics import Metrics

# Memory that one string of an input takes in addition to its characters, which are in the message
# already: a pointer in the array, and the CPython object that it points to.
_BYTES_PER_STRING = 8 + 33


@dataclasses.dataclass
class Call:
    """A predict request that was admitted.

    Attributes:
      flow: Who sent the request: a connection, or the name in a header of the request. The model's
        time is shared evenly between flows.
      caller_key: Key by which requests are split between versions; empty if the request has none.
      num_bytes: Size of the request as received.
    """

    flow: Hashable
    caller_key: str
    num_bytes: int
    _admission: "Admission"
    _held: int = 0

    def hold(self, num_bytes: int) -> None:
        """Reserves memory that the request needs until it is answered.

        Raises:
          ServingError: UNAVAILABLE, if all admitted requests together would hold too much.
        """
        self._admission.hold(num_bytes)
        self._held += num_bytes

    def read(self, num_bytes: int) -> None:
        """Reserves memory for bytes of the request that arrive. Raises as ``hold`` does."""
        self.hold(num_bytes)
        self.num_bytes += num_bytes

    def decoded(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Reserves memory for the decoded inputs. Raises as ``hold`` does."""
        self.hold(
            sum(
                value.size * _BYTES_PER_STRING if value.dtype == object else value.nbytes
                for value in inputs.values()
            )
        )

    def release(self) -> None:
        """Releases all memory that was reserved."""
        self._admission.hold(-self._held)
        self._held = 0


class Admission:
    """Limits the number of predict requests in progress, and the memory that they hold.

    Args:
      config: Contains the limits.
      runner: Tells whether its queue would accept another request.
      metrics: Counts refused requests by reason.
    """

    def __init__(self, config: ServerConfig, runner: Runner, metrics: Metrics):
        self._config = config
        self._runner = runner
        self._metrics = metrics
        self._calls = 0
        self._held = 0

    @contextlib.contextmanager
    def call(self, flow: Hashable, caller_key: str, num_bytes: int) -> Iterator[Call]:
        """Admits a request, until it is answered.

        Args:
          flow: See ``Call``.
          caller_key: See ``Call``.
          num_bytes: Size of the request as far as it is known; more may be read later.

        Raises:
          ServingError: UNAVAILABLE.
        """
        if self._calls >= self._config.max_requests_under_way:
            self._metrics.refused_requests.labels("too_many_calls").inc()
            raise unavailable(
                f"{self._calls} predict requests are in progress, which is the limit"
                " (max_requests_under_way); retry later or elsewhere"
            )
        self._runner.admit(flow, num_bytes)
        call = Call(flow, caller_key, 0, self)
        self._calls += 1
        try:
            call.read(num_bytes)
            yield call
        finally:
            call.release()
            self._calls -= 1

    def hold(self, num_bytes: int) -> None:
        """Reserves memory; a negative number releases it. Raises as ``Call.hold`` does."""
        limit = self._config.max_bytes_under_way
        # A single request is always admitted, whatever its size: other limits bound that.
        if num_bytes > 0 and self._calls > 1 and self._held + num_bytes > limit:
            self._metrics.refused_requests.labels("memory").inc()
            raise unavailable(
                f"The requests in progress hold {self._held} bytes, and {num_bytes} more would"
                f" exceed the limit of {limit} (max_bytes_under_way); retry later or elsewhere"
            )
        self._held += num_bytes
        self._metrics.held_bytes.set(self._held)
