"""Structured logs: one JSON object per line on standard error."""

import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Hashable

from serving import tracing

# Attributes that every record has; all others came in ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OUR_LOGGERS = "serving."
_MAX_KINDS = 1000  # of lines that are remembered


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, event, the trace of the request, and all ``extra`` fields.

    Args:
      with_content: Whether exceptions are written with their messages, which may repeat values
        of a request; otherwise their types and where they were raised.
      worker: Number of the process among others of one server; None if it is alone.
    """

    def __init__(self, *, with_content: bool = False, worker: int | None = None):
        super().__init__()
        self._with_content = with_content
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record as one line."""
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if self._worker is not None:
            entry["worker"] = self._worker
        trace = tracing.current()
        if trace is not None:
            entry.update(trace_id=trace.trace_id, span_id=trace.span_id)
        entry.update(
            (key, value)
            for key, value in vars(record).items()
            if key not in _STANDARD and value is not None
        )
        if record.exc_info and record.exc_info[1]:
            entry["exception"] = (
                self.formatException(record.exc_info)
                if self._with_content
                else _without_messages(record.exc_info[1])
            )
        return json.dumps(entry, default=str)


def _without_messages(error: BaseException) -> str:
    """The types of an exception and of those behind it, and where they were raised."""
    parts = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        where = "".join(traceback.format_tb(cause.__traceback__))
        parts.append(f"{where}{type(cause).__name__}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\ncaused by:\n".join(parts)


class Throttle:
    """Lets some lines of each kind pass in an interval, and counts those that it holds back.

    Args:
      lines: How many pass.
      interval_seconds: Length of the interval, which begins with the first line of a kind.
      clock: Gives the seconds by which it is measured.
    """

    def __init__(
        self,
        lines: int,
        interval_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._lines = lines
        self._interval_seconds = interval_seconds
        self._clock = clock
        # By kind: when its interval began, and how many lines there have been since.
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def take(self, kind: Hashable) -> int | None:
        """Takes a line of a kind.

        Returns:
          How many lines were held back in the interval before; None if this one is too.
        """
        now = self._clock()
        since, seen = self._kinds.get(kind, (-math.inf, 0))
        if now - since < self._interval_seconds:
            self._kinds[kind] = since, seen + 1
            return None if seen >= self._lines else 0
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = now, 1
        return max(0, seen - self._lines)


class ErrorThrottle(logging.Filter):
    """Keeps exceptions that clients can cause at will from filling the log.

    Of each kind of exception (logger, message and type) one record passes per interval; it
    says how many were held back since the one before. The libraries' records lose their
    tracebacks: they show the library's code, and may repeat values of a request.

    Args:
      interval_seconds: Time between two records of one kind.
      clock: Gives the seconds by which it is measured.
    """

    def __init__(self, interval_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._throttle = Throttle(1, interval_seconds, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is written; changes it if so."""
        exception = record.exc_info[0] if record.exc_info else None
        if exception is None:
            return True
        held_back = self._throttle.take((record.name, str(record.msg), exception.__name__))
        if held_back is None:
            return False
        vars(record).update(held_back=held_back or None)
        if not record.name.startswith(_OUR_LOGGERS):
            record.msg, record.args = "exception in a library", None
            vars(record).update(exception_type=exception.__name__)
            record.exc_info = record.exc_text = None
        return True


def configure(
    level: int = logging.INFO, *, with_content: bool = False, worker: int | None = None
) -> None:
    """Sends all logs of the process to standard error as JSON lines.

    Args:
      level: Of the records that are written.
      with_content: See ``JsonFormatter``.
      worker: See ``JsonFormatter``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(with_content=with_content, worker=worker))
    handler.addFilter(ErrorThrottle())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Warnings are lines of the log as well; NumPy's repeat numbers that do not fit a type.
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").disabled = not with_content
    # TensorFlow has a handler of its own; without this, lines come twice.
    logging.getLogger("tensorflow").handlers.clear()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
