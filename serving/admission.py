"""Which predict requests are taken on, before anything is spent on them."""

import contextlib
import dataclasses
from collections.abc import Hashable, Iterator, Mapping

import numpy as np

from serving.batching import Runner
from serving.config import ServerConfig
from serving.errors import unavailable
from serving.metrics import Metrics

# What a string of an input takes in memory beside its characters, which the message has:
# a pointer in the array, and the object of CPython that it points to.
_BYTES_PER_STRING = 8 + 33


@dataclasses.dataclass
class Call:
    """A predict request that was taken on.

    Attributes:
      flow: Who asks: the connection, or what the request itself says. Between flows the model's
        time is shared evenly.
      caller_key: Key by which requests are split between versions; empty if there is none.
      num_bytes: Size of the request as it arrived.
    """

    flow: Hashable
    caller_key: str
    num_bytes: int
    _admission: "Admission"
    _held: int = 0

    def hold(self, num_bytes: int) -> None:
        """Counts memory that the request needs until it is answered.

        Raises:
          ServingError: UNAVAILABLE, if the requests under way would hold too much together.
        """
        self._admission.hold(num_bytes)
        self._held += num_bytes

    def read(self, num_bytes: int) -> None:
        """Counts bytes of the request that arrive, and holds them. Raises as ``hold`` does."""
        self.hold(num_bytes)
        self.num_bytes += num_bytes

    def decoded(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Holds the decoded inputs. Raises as ``hold`` does."""
        self.hold(
            sum(
                value.size * _BYTES_PER_STRING if value.dtype == object else value.nbytes
                for value in inputs.values()
            )
        )

    def release(self) -> None:
        """Gives back all that was held."""
        self._admission.hold(-self._held)
        self._held = 0


class Admission:
    """Bounds the number of predict requests under way, and the memory that they hold.

    Args:
      config: Has the bounds.
      runner: Knows whether its queue would take another request.
      metrics: Counts what is refused, and why.
    """

    def __init__(self, config: ServerConfig, runner: Runner, metrics: Metrics):
        self._config = config
        self._runner = runner
        self._metrics = metrics
        self._calls = 0
        self._held = 0

    @contextlib.contextmanager
    def call(self, flow: Hashable, caller_key: str, num_bytes: int) -> Iterator[Call]:
        """Takes a request on until it is answered.

        Args:
          flow: See ``Call``.
          caller_key: See ``Call``.
          num_bytes: Its size, as far as it is known; more may be read.

        Raises:
          ServingError: UNAVAILABLE.
        """
        if self._calls >= self._config.max_requests_under_way:
            self._metrics.refused_requests.labels("too_many_calls").inc()
            raise unavailable(
                f"{self._calls} predict requests are under way, which is the limit"
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
        """Counts memory; a negative number gives it back. Raises as ``Call.hold`` does."""
        limit = self._config.max_bytes_under_way
        # One request is always taken on, whatever its size: other limits are for that.
        if num_bytes > 0 and self._calls > 1 and self._held + num_bytes > limit:
            self._metrics.refused_requests.labels("memory").inc()
            raise unavailable(
                f"The requests under way hold {self._held} bytes, and {num_bytes} more would be"
                f" beyond the limit of {limit} (max_bytes_under_way); retry later or elsewhere"
            )
        self._held += num_bytes
        self._metrics.held_bytes.set(self._held)
