"""What browsers may do: web pages of other sites must not reach the server through them.

A page of another site can let its own host name point at this machine (DNS rebinding) and
then reads answers as if they were its own, or it can send requests without reading the
answers. The first shows in the Host header, the second in the Origin header.
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

_HOSTS_REMEMBERED = 256  # they are looked at in every request
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_preflight(request: web.Request) -> bool:
    """Whether a browser asks, for a page, if it may send a request (CORS-preflight of Fetch).

    Such a request carries no credentials, and its answer tells nothing.
    """
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def cors_headers(*, with_tokens: bool) -> dict[str, str]:
    """The headers by which pages of other sites may read answers: TF Serving's.

    Args:
      with_tokens: Whether pages have to send a token, which they may then.
    """
    sent = ["Content-Type", *([AUTHORIZATION] if with_tokens else ())]
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "POST, GET",
        "Access-Control-Allow-Headers": ", ".join(sent),
    }


class BrowserGuard:
    """Refuses requests that a browser sends for a page of another site.

    A server on the loopback answers to the loopback's names and addresses only, and to
    those allowed. One that listens beyond it is reached under names that it cannot know:
    it answers to any, unless some are given. A request with an Origin header must come
    from a page of the same host as it goes to, or of one that is allowed.

    Args:
      listens_on: Address that the server listens on.
      allowed: Further host names, without port.
    """

    def __init__(self, listens_on: str, allowed: Collection[str]):
        self._is_local = is_loopback(listens_on)
        self._allowed = frozenset(name.lower() for name in allowed)

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Of aiohttp: answers 403 in place of ``handler``."""
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
        """Why a request with these headers is refused; empty if it is not."""
        name = _name_of(f"//{host}")
        is_known = name in self._allowed or (self._is_local and is_loopback(name))
        if not is_known and (self._is_local or self._allowed):
            return (
                f"The server does not answer to the host {name!r}; start it with"
                " --allowed_hosts to name it"
            )
        if origin is not None:
            source = _name_of(origin)
            if source != name and source not in self._allowed:
                return (
                    f"The server does not answer pages of {origin!r}; start it with"
                    " --allowed_hosts to name their host"
                )
        return ""


@functools.lru_cache(_HOSTS_REMEMBERED)
def _name_of(url: str) -> str:
    """The host of a URL in lower case, without port; empty if there is none."""
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return ""
