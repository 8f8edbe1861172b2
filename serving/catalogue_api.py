"""The API by which the catalogue is changed: REST beside TF Serving's, and a gRPC service.

TF Serving has nothing like it. Over gRPC, messages are ``google.protobuf.Struct`` with the fields
of the JSON bodies, so that callers need no generated code.
"""

import asyncio
import dataclasses
import functools
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import orjson
from aiohttp import web
from google.protobuf import json_format, struct_pb2

from contract.catalogue_changes import REMOVAL, Change, ChangeError, parse_id, parse_item
from contract.catalogue_messages import (
    CATALOGUE_PATH,
    ITEMS,
    KEY,
    MODEL,
    REMOVE,
    UPSERT,
    CatalogueChanged,
    CatalogueStatus,
)
from contract.change_log import Update
from serving import codec, tracing
from serving.errors import (
    RETRY_AFTER_SECONDS,
    ServingError,
    internal,
    invalid_argument,
)
from serving.live_catalogue import LiveCatalogue
from serving.request_log import RequestLog
from serving.service_descriptors import (
    CATALOGUE_SERVICE,
    REMOVE_METHOD,
    STATUS_METHOD,
    UPSERT_METHOD,
)

_MAX_ITEMS: Final = 10_000
_MAX_KEY: Final = 200
_MAX_SHOWN: Final = 20  # items without a vector that an answer names

_Answer = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]


def is_for_catalogue(request: web.Request) -> bool:
    """Whether a request goes to one of the routes of this API."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical.split(":")[0] == CATALOGUE_PATH


class CatalogueApi:
    """Reads requests for changes, and answers once they are made.

    Args:
      catalogue: Makes the changes.
      request_log: Records every request.
      max_bytes: Largest body.
    """

    def __init__(self, catalogue: LiveCatalogue, request_log: RequestLog, max_bytes: int):
        self._catalogue = catalogue
        self._request_log = request_log
        self._max_bytes = max_bytes
        # One after the other: a body of megabytes must not come in any number at once.
        self._reading = asyncio.Semaphore(4)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to ``app``, before those of TF Serving's API."""
        app.router.add_get(CATALOGUE_PATH, self._rest_status)
        app.router.add_post(f"{CATALOGUE_PATH}:{UPSERT}", functools.partial(self._rest, UPSERT))
        app.router.add_post(f"{CATALOGUE_PATH}:{REMOVE}", functools.partial(self._rest, REMOVE))

    def add_to_grpc(self, server: grpc.aio.Server) -> None:
        """Adds the service to ``server``."""
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                functools.partial(_grpc_call, self._request_log, name, answer),
                request_deserializer=struct_pb2.Struct.FromString,
                response_serializer=struct_pb2.Struct.SerializeToString,
            )
            for name, answer in (
                (UPSERT_METHOD, self.upsert),
                (REMOVE_METHOD, self.remove),
                (STATUS_METHOD, self.status),
            )
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(CATALOGUE_SERVICE, handlers),)
        )

    async def upsert(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Adds or changes items. Raises ServingError."""
        kinds = self._catalogue.stable(name).features
        updates: list[tuple[str, Update]] = []
        for item in _items(body):
            try:
                item_id, upsert = parse_item(item, kinds)
            except ChangeError as e:
                raise invalid_argument(str(e)) from e
            updates.append((item_id, upsert.after))
        return await self._change(name, updates, body)

    async def remove(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Removes items. Raises ServingError."""
        try:
            ids = [parse_id(item) for item in _items(body)]
        except ChangeError as e:
            raise invalid_argument(str(e)) from e
        return await self._change(name, [(item, _removed) for item in ids], body)

    async def status(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Tells how much has changed. Raises ServingError."""
        del body
        live = self._catalogue.stable(name)
        return dataclasses.asdict(
            CatalogueStatus(
                position=live.position,
                folded=live.folded,
                pushed_items=live.num_pushed,
                live_items=live.num_slots,
                replaced_items=live.num_replaced,
                items_without_vector=len(live.without_vector),
                features=live.features,
            )
        )

    async def _change(
        self, name: str, updates: list[tuple[str, Update]], body: Mapping[str, Any]
    ) -> dict[str, Any]:
        key = body.get(KEY, "")
        if not isinstance(key, str) or len(key) > _MAX_KEY:
            raise invalid_argument(
                f"key must be a string of at most {_MAX_KEY} characters, by which a request that"
                " is sent again is recognised"
            )
        outcome = await self._catalogue.change(name, updates, key)
        return dataclasses.asdict(
            CatalogueChanged(
                position=outcome.position,
                items=len(updates),
                repeated=outcome.is_repeated,
                without_vector=list(outcome.without_vector[:_MAX_SHOWN]),
                items_without_vector=len(outcome.without_vector),
            )
        )

    async def _rest_status(self, request: web.Request) -> web.Response:
        return await self._answer(request, "items:status", self.status, has_body=False)

    async def _rest(self, method: str, request: web.Request) -> web.Response:
        answer = self.upsert if method == UPSERT else self.remove
        return await self._answer(request, f"items:{method}", answer, has_body=True)

    async def _answer(
        self, request: web.Request, method: str, answer: _Answer, *, has_body: bool
    ) -> web.Response:
        name = urllib.parse.unquote(request.match_info["name"])
        with self._request_log.record("REST", method, name) as record:
            try:
                async with self._reading:
                    body = await self._body(request) if has_body else {}
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

    async def _body(self, request: web.Request) -> Mapping[str, Any]:
        if (request.content_length or 0) > self._max_bytes:
            raise web.HTTPRequestEntityTooLarge(self._max_bytes, request.content_length or 0)
        content = await request.read()
        try:
            body = await asyncio.to_thread(orjson.loads, content)
        except orjson.JSONDecodeError as e:
            raise invalid_argument(f"The body is no JSON: {e}") from e
        if not isinstance(body, dict):
            raise invalid_argument("The body must be a JSON object with the list items")
        return body


def _items(body: Mapping[str, Any]) -> list[Any]:
    items = body.get(ITEMS)
    if not isinstance(items, list) or not items:
        raise invalid_argument("The body must have a list items that is not empty")
    if len(items) > _MAX_ITEMS:
        raise invalid_argument(
            f"{len(items)} items are more than {_MAX_ITEMS}, which is the limit; send several"
            " requests"
        )
    return items


def _removed(before: Change | None) -> Change:
    del before
    return REMOVAL


async def _grpc_call(
    request_log: RequestLog,
    method: str,
    answer: _Answer,
    request: struct_pb2.Struct,
    context: grpc.aio.ServicerContext,
) -> struct_pb2.Struct:
    body = json_format.MessageToDict(request)
    name = body.get(MODEL, "")
    with request_log.record("gRPC", method, name if isinstance(name, str) else "") as record:
        try:
            if not isinstance(name, str) or not name:
                raise invalid_argument("The field model must name a model")
            return json_format.ParseDict(await answer(name, body), struct_pb2.Struct())
        except ServingError as e:
            error = e
        except Exception as e:
            error = internal(e)
        record.fail(error)
    tracing.return_to(context)
    await context.abort(error.code, error.message)
    raise AssertionError("abort raises")
