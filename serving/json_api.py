"""Handles requests whose messages are JSON objects: over REST, and over gRPC.

Over gRPC, messages are ``google.protobuf.Struct`` with the fields of the JSON bodies and ``model``,
the name of the model, so that callers need no generated code.
"""

import asyncio
import contextlib
import functools
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import orjson
from aiohttp import web
from google.protobuf import json_format, struct_pb2

from contract.server_methods import KEY, MODEL, ServerMethod
from serving import codec, tracing
from serving.errors import RETRY_AFTER_SECONDS, ServingError, internal, invalid_argument
from serving.request_log import RequestLog

_MAX_KEY: Final = 200
_LARGE: Final = 1 << 16  # bytes
_LARGE_AT_ONCE: Final = 4

# Computes the answer to a message, given the name of the model; may raise ServingError.
Answer = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class JsonApi:
    """Parses messages, and writes the answer or an error.

    Args:
      request_log: Records every request.
      max_bytes: Largest body in bytes.
    """

    def __init__(self, request_log: RequestLog, max_bytes: int):
        self._request_log = request_log
        self._max_bytes = max_bytes
        # Only a limited number of large bodies may be in memory at once.
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    def add_routes(self, app: web.Application, answers: Mapping[ServerMethod, Answer]) -> None:
        """Adds the REST routes of methods to ``app``."""
        for method, answer in answers.items():
            add = app.router.add_post if method.has_body else app.router.add_get
            add(method.path, functools.partial(self._rest, method, answer))

    async def _rest(
        self, method: ServerMethod, answer: Answer, request: web.Request
    ) -> web.Response:
        name = urllib.parse.unquote(request.match_info["name"])
        with self._request_log.record("REST", method.operation, name) as record:
            try:
                # Small messages all wait together for the next write to the store, which writes all
                # of them.
                is_large = method.has_body and (request.content_length or _LARGE) >= _LARGE
                async with self._large if is_large else contextlib.nullcontext():
                    body = await self._body(request) if method.has_body else {}
                    content = orjson.dumps(await answer(name, body))
                return web.Response(body=content, content_type="application/json")
            except web.HTTPRequestEntityTooLarge:
                error = ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"Request body is larger than the limit of {self._max_bytes} bytes",
                )
            except ServingError as e:
                error = e
            except Exception as e:
                error = internal(e)
            record.fail(error)
            response = web.Response(
                status=error.http_status,
                body=codec.format_error(error.message),
                content_type="application/json",
            )
            if error.code == grpc.StatusCode.UNAVAILABLE:
                response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return response

    def add_service(self, server: grpc.aio.Server, answers: Mapping[ServerMethod, Answer]) -> str:
        """Adds the gRPC service of methods to ``server``; returns its name."""
        handlers = {
            method.name: grpc.unary_unary_rpc_method_handler(
                functools.partial(self._grpc, method.name, answer),
                request_deserializer=struct_pb2.Struct.FromString,
                response_serializer=struct_pb2.Struct.SerializeToString,
            )
            for method, answer in answers.items()
        }
        (service,) = {method.service for method in answers}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        return service

    async def _grpc(
        self,
        method: str,
        answer: Answer,
        request: struct_pb2.Struct,
        context: grpc.aio.ServicerContext,
    ) -> struct_pb2.Struct:
        body = json_format.MessageToDict(request)
        name = body.get(MODEL, "")
        with self._request_log.record(
            "gRPC", method, name if isinstance(name, str) else ""
        ) as record:
            try:
                if not isinstance(name, str) or not name:
                    raise invalid_argument("The field 'model' must name a model")
                return json_format.ParseDict(await answer(name, body), struct_pb2.Struct())
            except ServingError as e:
                error = e
            except Exception as e:
                error = internal(e)
            record.fail(error)
        tracing.return_to(context)
        await context.abort(error.code, error.message)
        raise AssertionError("abort raises")

    async def _body(self, request: web.Request) -> Mapping[str, Any]:
        if (request.content_length or 0) > self._max_bytes:
            raise web.HTTPRequestEntityTooLarge(self._max_bytes, request.content_length or 0)
        content = await request.read()
        try:
            body = await asyncio.to_thread(orjson.loads, content)
        except orjson.JSONDecodeError as e:
            raise invalid_argument(f"The body is not JSON: {e}") from e
        if not isinstance(body, dict):
            raise invalid_argument("The body must be a JSON object")
        return body


def list_of(body: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    """Returns the list ``name`` of a message, which must have 1 to ``limit`` elements.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    values = body.get(name)
    if not isinstance(values, list) or not values:
        raise invalid_argument(f"The body must have a list {name} that is not empty")
    if len(values) > limit:
        raise invalid_argument(
            f"{len(values)} {name} are more than {limit}, which is the limit; send several requests"
        )
    return values


def key_of(body: Mapping[str, Any]) -> str:
    """Returns the key by which a request is recognised when it is sent again; "" if it has none.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    key = body.get(KEY, "")
    if not isinstance(key, str) or len(key) > _MAX_KEY:
        raise invalid_argument(
            f"key must be a string of at most {_MAX_KEY} characters; it identifies a request that"
            " is sent again"
        )
    return key
