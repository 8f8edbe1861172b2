"""The API for events and erasures: REST routes beside TF Serving's, and a gRPC service.

TF Serving has no counterpart.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import grpc
from aiohttp import web

from contract.catalogue_changes import nearest_hint
from contract.histories import HistoryError, parse_reports, parse_user_id
from contract.history_messages import ERASED, EVENTS, NEW_EVENTS, PROFILES, REPEATED, USER_IDS
from contract.history_store import Batch
from contract.server_methods import ADD_EVENTS, ERASE_USERS, KEY, MODEL, ServerMethod
from serving.errors import ServingError
from serving.histories import Histories
from serving.json_api import Answer, JsonApi, key_of, list_of
from serving.request_log import RequestLog

_MAX_EVENTS: Final = 10_000
_MAX_USERS: Final = 10_000


class HistoriesApi:
    """Parses events and erasures, and answers once they are written.

    Args:
      histories: Stores them.
      request_log: Records every request.
      max_bytes: Largest body in bytes.
    """

    def __init__(self, histories: Histories, request_log: RequestLog, max_bytes: int):
        self._histories = histories
        self._json = JsonApi(request_log, max_bytes)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to ``app``, before those of TF Serving's API."""
        self._json.add_routes(app, self._answers())

    def add_to_grpc(self, server: grpc.aio.Server) -> str:
        """Adds the service to ``server``; returns its name."""
        return self._json.add_service(server, self._answers())

    def _answers(self) -> dict[ServerMethod, Answer]:
        return {ADD_EVENTS: self.add_events, ERASE_USERS: self.erase_users}

    async def add_events(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Stores events and profiles, either all of them or none. Raises ServingError."""
        _check_fields(body, (EVENTS, PROFILES, KEY))
        given = [field for field in (EVENTS, PROFILES) if field in body] or [EVENTS]
        lists = {field: list_of(body, field, _MAX_EVENTS) for field in given}
        profiles = lists.get(PROFILES, [])
        features = self._histories.profile_features(name) if profiles else ()
        try:
            reports = parse_reports(lists.get(EVENTS, []), profiles, features, time.time())
        except HistoryError as e:
            raise _refusal(e) from e
        outcome = await self._histories.add(name, Batch(reports, key_of(body)))
        return {
            **{field: len(values) for field, values in lists.items()},
            NEW_EVENTS: outcome.events,
            REPEATED: outcome.is_repeated,
        }

    async def erase_users(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Erases people. Raises ServingError."""
        _check_fields(body, (USER_IDS,))
        try:
            ids = [parse_user_id(value) for value in list_of(body, USER_IDS, _MAX_USERS)]
        except HistoryError as e:
            raise _refusal(e) from e
        return {USER_IDS: len(ids), ERASED: await self._histories.erase(name, ids)}


def _check_fields(body: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for field in body:
        if field not in (*fields, MODEL):
            raise _refusal(
                HistoryError(
                    f"The body has no field {field!r}{nearest_hint(field, fields)}; the fields are"
                    f" {', '.join(fields)}"
                )
            )


def _refusal(error: HistoryError) -> ServingError:
    """Returns the error for the caller; what the caller sent must not reach a log."""
    code = grpc.StatusCode.INVALID_ARGUMENT
    return ServingError(code, str(error), public_message="the message is not as it must be")
