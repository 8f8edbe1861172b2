"""The API for events and erasures: REST routes beside TF Serving's, and a gRPC service.

TF Serving has no counterpart.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any, Final

import grpc
from aiohttp import web

from contract.catalogue_changes import nearest_hint
from contract.catalogue_messages import KEY, MODEL
from contract.histories import HistoryError, parse_reports, parse_user_id
from contract.history_store import Batch
from serving.errors import ServingError
from serving.histories import Histories
from serving.json_api import JsonApi, key_of, list_of
from serving.request_log import RequestLog
from serving.service_descriptors import ADD_EVENTS_METHOD, ERASE_USERS_METHOD, HISTORIES_SERVICE

_EVENTS_PATH: Final = "/v1/models/{name}/events"
_ERASE_PATH: Final = "/v1/models/{name}/users:erase"
_EVENTS, _PROFILES, _USER_IDS = "events", "profiles", "user_ids"
_MAX_EVENTS: Final = 10_000
_MAX_USERS: Final = 10_000


def is_for_histories(request: web.Request) -> bool:
    """Whether a request is for one of the routes of this API."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical in (_EVENTS_PATH, _ERASE_PATH)


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
        rest = self._json.rest
        app.router.add_post(_EVENTS_PATH, functools.partial(rest, "events", self.add_events))
        app.router.add_post(_ERASE_PATH, functools.partial(rest, "users:erase", self.erase_users))

    def add_to_grpc(self, server: grpc.aio.Server) -> str:
        """Adds the service to ``server``; returns its name."""
        answers = {ADD_EVENTS_METHOD: self.add_events, ERASE_USERS_METHOD: self.erase_users}
        self._json.add_service(server, HISTORIES_SERVICE, answers)
        return HISTORIES_SERVICE

    async def add_events(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Stores events and profiles, either all of them or none. Raises ServingError."""
        _check_fields(body, (_EVENTS, _PROFILES, KEY))
        given = [field for field in (_EVENTS, _PROFILES) if field in body] or [_EVENTS]
        lists = {field: list_of(body, field, _MAX_EVENTS) for field in given}
        profiles = lists.get(_PROFILES, [])
        features = self._histories.profile_features(name) if profiles else ()
        try:
            reports = parse_reports(lists.get(_EVENTS, []), profiles, features, time.time())
        except HistoryError as e:
            raise _refusal(e) from e
        outcome = await self._histories.add(name, Batch(reports, key_of(body)))
        return {
            **{field: len(values) for field, values in lists.items()},
            "new_events": outcome.events,
            "repeated": outcome.is_repeated,
        }

    async def erase_users(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Erases people. Raises ServingError."""
        _check_fields(body, (_USER_IDS,))
        try:
            ids = [parse_user_id(value) for value in list_of(body, _USER_IDS, _MAX_USERS)]
        except HistoryError as e:
            raise _refusal(e) from e
        return {_USER_IDS: len(ids), "erased": await self._histories.erase(name, ids)}


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
