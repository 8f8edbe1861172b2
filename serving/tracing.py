"""Trace ids, which link log lines, metrics and answers to the request of a caller.

Follows W3C Trace Context (https://www.w3.org/TR/trace-context/, "the recommendation" below). A
request with a valid ``traceparent`` belongs to the caller's trace; any other request begins a trace
of its own. The server records no spans: the id in its log and metrics leads to the spans of systems
that do.
"""

import contextvars
import dataclasses
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import grpc
from aiohttp import web

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# The first four fields of every version, and what may follow in future versions (section 3.2).
# Upper-case hexadecimal digits are not valid.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_INVALID_VERSION = "ff"
_FIRST_VERSION = "00"
_SAMPLED = 0x01

# Section 3.3: up to 32 entries KEY=VALUE; headers longer than 512 characters need not be passed on.
_KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_ENTRY = re.compile(rf"{_KEY}={_VALUE}")
_MAX_ENTRIES = 32
_MAX_CHARACTERS = 512

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True)
class Trace:
    """This server's part of a trace.

    Attributes:
      trace_id: Id of the whole trace: 32 hexadecimal digits.
      span_id: Id of this request in this server: 16 hexadecimal digits.
      is_sampled: Whether the caller records the trace.
      state: Vendors' data in ``tracestate``; passed on unchanged.
    """

    trace_id: str
    span_id: str
    is_sampled: bool = False
    state: str = ""

    @classmethod
    def of_request(cls, parents: Sequence[str], states: Sequence[str]) -> "Trace":
        """Creates the trace of a request.

        Args:
          parents: Its ``traceparent`` headers; a malformed header, or more than one, counts as
            none.
          states: Its ``tracestate`` headers, which together form one list.
        """
        span_id = os.urandom(8).hex()
        parent = _parse(parents[0]) if len(parents) == 1 else None
        if parent is None:
            # Nothing is recorded here, so there is nothing to sample.
            return cls(os.urandom(16).hex(), span_id)
        trace_id, is_sampled = parent
        return cls(trace_id, span_id, is_sampled, _parse_state(states))

    def headers(self) -> list[tuple[str, str]]:
        """Returns the HTTP headers or gRPC metadata that go back to the caller."""
        flags = _SAMPLED if self.is_sampled else 0
        parent = f"{_FIRST_VERSION}-{self.trace_id}-{self.span_id}-{flags:02x}"
        return [(TRACEPARENT, parent), *([(TRACESTATE, self.state)] if self.state else [])]


_OF_REQUEST = web.RequestKey("trace", Trace)
_CURRENT: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("trace", default=None)


def current() -> Trace | None:
    """Returns the trace of the request that is being answered; None outside a request."""
    return _CURRENT.get()


def exemplar() -> dict[str, str] | None:
    """Returns the labels that link a metric to the trace; None if the caller does not record it."""
    trace = _CURRENT.get()
    return {"trace_id": trace.trace_id} if trace is not None and trace.is_sampled else None


def add_to(app: web.Application) -> None:
    """Adds tracing to ``app``; its other middlewares run within the trace."""
    app.middlewares.insert(0, _middleware)
    app.on_response_prepare.append(_add_headers)


@web.middleware
async def _middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
    headers = request.headers
    trace = Trace.of_request(headers.getall(TRACEPARENT, ()), headers.getall(TRACESTATE, ()))
    request[_OF_REQUEST] = trace
    # Reset, because the task belongs to the connection and goes on to its next request.
    token = _CURRENT.set(trace)
    try:
        return await handler(request)
    finally:
        _CURRENT.reset(token)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if _OF_REQUEST in request:
        response.headers.update(request[_OF_REQUEST].headers())


class GrpcTracing(grpc.aio.ServerInterceptor):
    """Traces gRPC calls; put it before other interceptors."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """See the base class."""
        metadata = details.invocation_metadata or ()
        # Each call has a task of its own.
        _CURRENT.set(
            Trace.of_request(_values(metadata, TRACEPARENT), _values(metadata, TRACESTATE))
        )
        return await continuation(details)


def return_to(context: grpc.aio.ServicerContext) -> None:
    """Adds the trace of this call to the metadata that comes back with its status."""
    trace = _CURRENT.get()
    if trace is not None:
        context.set_trailing_metadata(trace.headers())


def _values(metadata: Iterable[tuple[str, str | bytes]], key: str) -> list[str]:
    return [value for name, value in metadata if name == key and isinstance(value, str)]


def _parse(traceparent: str) -> tuple[str, bool] | None:
    """Returns the trace id and the sampled flag; None if the header is not valid."""
    match = _TRACEPARENT.fullmatch(traceparent.strip(" \t"))
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == _INVALID_VERSION or (version == _FIRST_VERSION and more is not None):
        return None
    if not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return trace_id, bool(int(flags, 16) & _SAMPLED)


def _parse_state(states: Sequence[str]) -> str:
    """Joins the ``tracestate`` headers; empty if one of them is not valid."""
    entries = [entry.strip(" \t") for state in states for entry in state.split(",")]
    entries = [entry for entry in entries if entry]
    keys = [entry.partition("=")[0] for entry in entries]
    joined = ",".join(entries)
    if (
        len(entries) > _MAX_ENTRIES
        or len(joined) > _MAX_CHARACTERS
        or len(set(keys)) < len(keys)
        or not all(map(_ENTRY.fullmatch, entries))
    ):
        return ""
    return joined
