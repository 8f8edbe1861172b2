"""Authentication by bearer tokens, read from files that may change while the server runs.

Tokens are compared by their digests in constant time and are never logged.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2

from contract.server_methods import CATALOGUE_SERVICE, HISTORIES_SERVICE, SERVER_METHODS
from serving import codec, tracing
from serving.browsers import is_preflight
from serving.config import ServerConfig
from serving.errors import ServingError
from serving.loopback import is_loopback
from serving.request_log import RequestLog
from serving.rest import METRICS_PATHS, PROBE_PATHS
from serving.token_file import AUTHORIZATION, SCHEME, TokenFileError, read_tokens

_log = logging.getLogger(__name__)

# Orchestrators probe this service over gRPC. Like the REST probes, they cannot send a token.
_OPEN_SERVICE = f"/{health_pb2.DESCRIPTOR.services_by_name['Health'].full_name}/"
_REALM = "mind-serving"
_BEARER = re.compile(rf"{SCHEME} +(\S+)", re.IGNORECASE)
_METHOD = "unauthenticated"  # replaces the requested method in metrics and logs
_Handler = Callable[[web.Request], Any]


class Tokens:
    """The currently valid tokens.

    Args:
      path: File with one token per line; see ``read_tokens``.

    Raises:
      OSError: the file cannot be read.
      TokenFileError: the file holds no token, or one of its lines is not a token.
    """

    def __init__(self, path: Path):
        self._path = path
        self._problem = ""
        self._digests = _digests(read_tokens(path))

    def problem(self, authorization: str | None) -> str:
        """Returns why a request with this header is refused; empty if it is accepted.

        Args:
          authorization: Value of the ``Authorization`` header; None if there is none.
        """
        if authorization is None:
            return f"The server requires a token: send '{AUTHORIZATION}: {SCHEME} TOKEN'"
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            return f"The {AUTHORIZATION} header must be '{SCHEME} TOKEN'"
        sent = _digest(match[1])
        # Compare with all of them, so that the time taken does not reveal which one nearly matched.
        matches = [hmac.compare_digest(sent, known) for known in self._digests]
        return "" if any(matches) else "The token is not valid; it may have been replaced"

    async def refresh(self) -> None:
        """Reads the file again; if that fails, the tokens stay as they are."""
        try:
            digests = _digests(await asyncio.to_thread(read_tokens, self._path))
        except (OSError, TokenFileError) as e:
            if str(e) != self._problem:
                _log.error(
                    "tokens not read",
                    extra={"error": f"{e}; the previous tokens stay valid"},
                )
            self._problem = str(e)
            return
        if digests != self._digests or self._problem:
            _log.info("tokens read", extra={"tokens": len(digests)})
        self._digests, self._problem = digests, ""


_SERVICE_OF_PATH = {method.path: method.service for method in SERVER_METHODS}


@dataclasses.dataclass(frozen=True)
class _Area:
    """A part of the API that has tokens of its own.

    Attributes:
      service: Its gRPC service.
      tokens: Its valid tokens; None if it requires none.
    """

    service: str
    tokens: Tokens | None

    def has(self, request: web.Request) -> bool:
        """Whether a REST request belongs to this part."""
        resource = request.match_info.route.resource
        return resource is not None and _SERVICE_OF_PATH.get(resource.canonical) == self.service


class _RestAuth:
    """Refuses REST requests without a valid token.

    Args:
      tokens: The valid tokens; None if none is required.
      areas: Parts of the API that have tokens of their own.
      request_log: Records refused requests.
      has_open_metrics: Whether metrics are served without a token.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        areas: Collection[_Area],
        request_log: RequestLog,
        *,
        has_open_metrics: bool,
    ):
        self._tokens = tokens
        self._areas = areas
        self._request_log = request_log
        self._open = {*PROBE_PATHS, *(METRICS_PATHS if has_open_metrics else ())}

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Middleware of aiohttp: answers 401 instead of calling ``handler``."""
        if request.path in self._open and request.method in ("GET", "HEAD"):
            return await handler(request)
        if is_preflight(request):
            return await handler(request)
        tokens = next((area.tokens for area in self._areas if area.has(request)), self._tokens)
        sent = request.headers.get(AUTHORIZATION)
        problem = tokens.problem(sent) if tokens is not None else ""
        if not problem:
            return await handler(request)
        error = ServingError(grpc.StatusCode.UNAUTHENTICATED, problem)
        with self._request_log.record("REST", _METHOD, "") as record:
            record.fail(error)
        response = web.Response(
            status=error.http_status,
            body=codec.format_error(error.message),
            content_type="application/json",
            headers={"WWW-Authenticate": _challenge(is_invalid=sent is not None)},
        )
        response.force_close()  # the body, which may be large, is not read
        return response


class _GrpcAuth(grpc.aio.ServerInterceptor):
    """Refuses gRPC calls without a valid token, whatever the method; the health service stays open.

    Args:
      tokens: The valid tokens; None if none is required.
      areas: Parts of the API that have tokens of their own.
      request_log: Records refused calls.
    """

    def __init__(self, tokens: Tokens | None, areas: Collection[_Area], request_log: RequestLog):
        self._tokens = tokens
        self._areas = areas
        self._request_log = request_log

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """See the base class."""
        if details.method.startswith(_OPEN_SERVICE):
            return await continuation(details)
        service = details.method.split("/")[1]
        tokens = next((a.tokens for a in self._areas if a.service == service), self._tokens)
        sent = dict(details.invocation_metadata or ()).get(AUTHORIZATION.lower())
        problem = tokens.problem(sent) if tokens is not None else ""
        if not problem:
            return await continuation(details)
        with self._request_log.record("gRPC", _METHOD, "") as record:
            record.fail(ServingError(grpc.StatusCode.UNAUTHENTICATED, problem))

        async def refuse(requests: Any, context: grpc.aio.ServicerContext) -> None:
            tracing.return_to(context)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, problem)

        # This handler fits any method, because the messages of the call are never read.
        return grpc.stream_unary_rpc_method_handler(refuse)


class Auth:
    """Authentication of a server: off, unless the configuration names a file of tokens.

    Args:
      config: Names the token files, and says what needs no token.
      request_log: Records refused requests.

    Raises:
      OSError: a token file cannot be read.
      TokenFileError: a file holds no token, or one of its lines is not a token.
    """

    def __init__(self, config: ServerConfig, request_log: RequestLog):
        self._config = config
        self._request_log = request_log
        self._tokens = Tokens(Path(config.auth_token_file)) if config.auth_token_file else None
        self._areas = [
            _Area(service, Tokens(Path(path)) if path else self._tokens)
            for service, path in (
                (CATALOGUE_SERVICE, config.live_catalogue_token_file),
                (HISTORIES_SERVICE, config.history_token_file),
            )
        ]
        files = (self._tokens, *(area.tokens for area in self._areas))
        self._all = [tokens for tokens in dict.fromkeys(files) if tokens]
        self._watcher: asyncio.Task[None] | None = None

    def add_to(self, app: web.Application) -> None:
        """Guards all requests to ``app``, including those to routes that do not exist."""
        if self._all:
            auth = _RestAuth(
                self._tokens,
                self._areas,
                self._request_log,
                has_open_metrics=self._config.auth_open_metrics,
            )
            app.middlewares.append(auth.middleware)

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """Returns the interceptors that guard the gRPC server."""
        if not self._all:
            return []
        return [_GrpcAuth(self._tokens, self._areas, self._request_log)]

    def start(self) -> None:
        """Starts watching the files; call it on the server's event loop."""
        if not self._all:
            return
        if not self._config.tls_certificate and not is_loopback(self._config.host):
            _log.warning(
                "tokens without TLS",
                extra={
                    "host": self._config.host,
                    "error": "anyone who can listen on the network can read the tokens; set"
                    " --tls_certificate and --tls_key, or have a proxy on this machine encrypt",
                },
            )
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stops watching the files."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._config.file_system_poll_wait_seconds)
            for tokens in self._all:
                await tokens.refresh()


def _challenge(*, is_invalid: bool) -> str:
    """Returns the value of WWW-Authenticate (RFC 6750, section 3)."""
    return f'{SCHEME} realm="{_REALM}"' + (', error="invalid_token"' if is_invalid else "")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _digests(tokens: Collection[str]) -> frozenset[bytes]:
    return frozenset(map(_digest, tokens))
