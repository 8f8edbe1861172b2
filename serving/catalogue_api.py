"""The API that changes the catalogue: REST routes beside TF Serving's, and a gRPC service.

TF Serving has no counterpart.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import grpc
from aiohttp import web

from contract.catalogue_changes import REMOVAL, Change, ChangeError, parse_id, parse_item
from contract.catalogue_messages import ITEMS, CatalogueChanged, CatalogueStatus
from contract.change_log import Update
from contract.server_methods import CATALOGUE_STATUS, REMOVE_ITEMS, UPSERT_ITEMS, ServerMethod
from serving.errors import invalid_argument
from serving.json_api import Answer, JsonApi, key_of, list_of
from serving.live_catalogue import LiveCatalogue
from serving.request_log import RequestLog

_MAX_ITEMS: Final = 10_000
_MAX_SHOWN: Final = 20  # items without a vector that are listed in an answer


class CatalogueApi:
    """Parses change requests, and answers them once the changes are made.

    Args:
      catalogue: Makes the changes.
      request_log: Records every request.
      max_bytes: Largest body in bytes.
    """

    def __init__(self, catalogue: LiveCatalogue, request_log: RequestLog, max_bytes: int):
        self._catalogue = catalogue
        self._json = JsonApi(request_log, max_bytes)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to ``app``, before those of TF Serving's API."""
        self._json.add_routes(app, self._answers())

    def add_to_grpc(self, server: grpc.aio.Server) -> str:
        """Adds the service to ``server``; returns its name."""
        return self._json.add_service(server, self._answers())

    def _answers(self) -> dict[ServerMethod, Answer]:
        return {
            CATALOGUE_STATUS: self.status,
            UPSERT_ITEMS: self.upsert,
            REMOVE_ITEMS: self.remove,
        }

    async def upsert(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Adds or changes items. Raises ServingError."""
        kinds = self._catalogue.stable(name).features
        updates: list[tuple[str, Update]] = []
        for item in list_of(body, ITEMS, _MAX_ITEMS):
            try:
                item_id, upsert = parse_item(item, kinds)
            except ChangeError as e:
                raise invalid_argument(str(e)) from e
            updates.append((item_id, upsert.after))
        return await self._change(name, updates, body)

    async def remove(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Removes items. Raises ServingError."""
        try:
            ids = [parse_id(item) for item in list_of(body, ITEMS, _MAX_ITEMS)]
        except ChangeError as e:
            raise invalid_argument(str(e)) from e
        return await self._change(name, [(item, _removed) for item in ids], body)

    async def status(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Reports how much has changed. Raises ServingError."""
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
        outcome = await self._catalogue.change(name, updates, key_of(body))
        return dataclasses.asdict(
            CatalogueChanged(
                position=outcome.position,
                items=len(updates),
                repeated=outcome.is_repeated,
                without_vector=list(outcome.without_vector[:_MAX_SHOWN]),
                items_without_vector=len(outcome.without_vector),
            )
        )


def _removed(before: Change | None) -> Change:
    del before
    return REMOVAL
