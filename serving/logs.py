"""Structured logs: one JSON object per line on standard error."""

import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Hashable

from serving import tracing

# Attributes that every record has; all others came in by ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OUR_LOGGERS = "serving."
_MAX_KINDS = 1000  # kinds of lines that are remembered


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, event, the request's trace, and all ``extra`` fields.

    Args:
      with_content: Whether exceptions are written with their messages, which may contain values of
        a request; otherwise only their types, and where they were raised.
      worker: Number of this process among the workers of one server; None if there is only one.
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
    """Returns the types of an exception and of its causes, and where they were raised."""
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
    """Lets a few lines of each kind pass per interval, and counts the others.

    Args:
      lines: Number of lines that pass.
      interval_seconds: Length of an interval, which begins with the first line of a kind.
      clock: Returns the current time in seconds.
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
        # By kind: when its interval began, and the number of lines since.
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def take(self, kind: Hashable) -> int | None:
        """Decides about a line of a kind.

        Returns:
          How many lines were held back in the interval before; None if this line is held back too.
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

    One record of each kind of exception (logger, message and type) passes per interval; it says how
    many were held back since the previous one. Records of libraries lose their tracebacks, which
    show the library's code and may contain values of the request.

    Args:
      interval_seconds: Time between two records of one kind.
      clock: Returns the current time in seconds.
    """

    def __init__(self, interval_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._throttle = Throttle(1, interval_seconds, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Decides whether ``record`` is written, and changes it if so."""
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
      level: Lowest level of the records that are written.
      with_content: See ``JsonFormatter``.
      worker: See ``JsonFormatter``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(with_content=with_content, worker=worker))
    handler.addFilter(ErrorThrottle())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Log warnings as well; those of NumPy contain numbers that do not fit a type.
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").disabled = not with_content
    # TensorFlow has a handler of its own, which would write every line a second time.
    logging.getLogger("tensorflow").handlers.clear()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
