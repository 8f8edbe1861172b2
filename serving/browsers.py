"""Browser protection: pages of other sites must not reach the server through a browser.

A page of another site can make its own host name point at this machine (DNS rebinding) and then
read answers as if they were its own, or it can send requests without reading the answers. The first
shows in the Host header, the second in the Origin header.
"""

import functools
import urllib.parse
from collections.abc import Awaitable, Callable, Collection

import grpc
from aiohttp import web

from serving import codec
from serving.errors import ServingError
from serving.loopback import is_loopback
from serving.token_file import AUTHORIZATION

_HOSTS_REMEMBERED = 256  # every request looks them up
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_preflight(request: web.Request) -> bool:
    """Whether a browser asks if a page may send a request (CORS preflight of the Fetch standard).

    Such a request carries no credentials, and its answer reveals nothing.
    """
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def cors_headers(*, with_tokens: bool) -> dict[str, str]:
    """Returns the headers that let pages of other sites read answers, as TF Serving sends them.

    Args:
      with_tokens: Whether pages have to send a token; the headers then allow it.
    """
    sent = ["Content-Type", *([AUTHORIZATION] if with_tokens else ())]
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "POST, GET",
        "Access-Control-Allow-Headers": ", ".join(sent),
    }


class BrowserGuard:
    """Refuses requests that a browser sends on behalf of a page of another site.

    A server on the loopback interface answers only to the names and addresses of the loopback, and
    to allowed host names. A server that listens on other interfaces cannot know the names under
    which clients reach it, so it answers to any host name unless some are configured. A request
    with an Origin header must come from a page of the host that it is sent to, or of an allowed
    host.

    Args:
      listens_on: Address that the server listens on.
      allowed: Further host names, without ports.
    """

    def __init__(self, listens_on: str, allowed: Collection[str]):
        self._is_local = is_loopback(listens_on)
        self._allowed = frozenset(name.lower() for name in allowed)

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Middleware of aiohttp: answers 403 instead of calling ``handler``."""
        problem = self.problem(request.host, request.headers.get("Origin"))
        if not problem:
            return await handler(request)
        error = ServingError(grpc.StatusCode.PERMISSION_DENIED, problem)
        return web.Response(
            status=error.http_status,
            body=codec.format_error(error.message),
            content_type="application/json",
        )

    def problem(self, host: str, origin: str | None) -> str:
        """Returns why a request with these headers is refused; empty if it is accepted."""
        name = _name_of(f"//{host}")
        is_known = name in self._allowed or (self._is_local and is_loopback(name))
        if not is_known and (self._is_local or self._allowed):
            return (
                f"The server does not answer requests for the host {name!r}; to allow it, restart"
                " the server with --allowed_hosts"
            )
        if origin is not None:
            source = _name_of(origin)
            if source != name and source not in self._allowed:
                return (
                    f"The server does not answer pages of {origin!r}; to allow their host, restart"
                    " the server with --allowed_hosts"
                )
        return ""


@functools.lru_cache(_HOSTS_REMEMBERED)
def _name_of(url: str) -> str:
    """Returns the host of a URL in lower case, without its port; empty if there is none."""
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""
