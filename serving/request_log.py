"""Records every request: always as a metric, and as a log line if configured."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import Literal

from serving.errors import ServingError
from serving.logs import Throttle
from serving.metrics import Metrics

_log = logging.getLogger(__name__)

# The server counts as idle once no request has begun or ended for this long. A client that keeps
# its connection open and asks again at once therefore gets one more answer, with the header that
# tells it to open a new connection, to another server.
_QUIET_SECONDS = 0.1
_POLL_SECONDS = 0.02
_MAX_SHOWN = 500  # characters of an error
# Log lines per ten seconds for refused requests of one kind, because clients can send any number of
# them.
_LINES_OF_A_KIND = 5


@dataclasses.dataclass
class Record:
    """The outcome of a request.

    Attributes:
      error: Why it failed; None if it did not.
    """

    error: ServingError | None = None

    def fail(self, error: ServingError) -> None:
        """Marks the request as failed."""
        self.error = error


class RequestLog:
    """Counts requests, and logs those that ``level`` selects.

    Args:
      metrics: Counts requests by model, API, method and code.
      model_names: Returns the names of the existing models.
      level: ``none``; ``errors``, which logs a few errors of each kind (API, method, model and
        status) per interval; or ``all``.
      with_content: Whether logged errors include values of the request.
      throttle: Decides how many errors of a kind are logged.
    """

    def __init__(
        self,
        metrics: Metrics,
        model_names: Callable[[], Collection[str]],
        level: Literal["none", "errors", "all"],
        *,
        with_content: bool = False,
        throttle: Throttle | None = None,
    ):
        self._metrics = metrics
        self._model_names = model_names
        self._level = level
        self._with_content = with_content
        self._throttle = throttle or Throttle(_LINES_OF_A_KIND)
        self._under_way = 0
        self._last_change = time.monotonic()

    async def drained(self, seconds: float) -> None:
        """Waits until no requests are running or arriving, for at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            quiet = time.monotonic() - self._last_change
            if not self._under_way and quiet >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def record(self, api: str, method: str, model: str) -> Iterator[Record]:
        """Measures a request.

        Args:
          api: ``REST`` or ``gRPC``.
          method: The requested method.
          model: Model named in the request, which may not exist.
        """
        record = Record()
        started = time.monotonic()
        code = "CANCELLED"
        self._change(+1)
        try:
            yield record
            code = record.error.code.name if record.error else "OK"
        finally:
            self._change(-1)
            # Clients could invent any number of names; metrics must not keep them.
            known = model if model in self._model_names() else ""
            self._metrics.requests.labels(known, api, method, code).inc()
            self._metrics.observe_request(known, api, method, code, time.monotonic() - started)
            held_back = self._held_back((api, method, known, code))
            if held_back is not None:
                _log.log(
                    logging.INFO if code == "OK" else logging.WARNING,
                    "request",
                    extra={
                        "api": api,
                        "method": method,
                        "model": model[:100],
                        "code": code,
                        "error": self._shown(record.error) if record.error else None,
                        "milliseconds": round(1000 * (time.monotonic() - started), 3),
                        "held_back": held_back or None,
                    },
                )

    def _held_back(self, kind: tuple[str, str, str, str]) -> int | None:
        """Returns how many lines were held back before this one; None if it is held back too."""
        if self._level == "all":
            return 0
        if self._level == "none" or kind[-1] == "OK":
            return None
        return self._throttle.take(kind)

    def _shown(self, error: ServingError) -> str:
        return (error.message if self._with_content else error.public_message)[:_MAX_SHOWN]

    def _change(self, number: int) -> None:
        self._under_way += number
        self._metrics.in_flight.set(self._under_way)
        self._last_change = time.monotonic()
