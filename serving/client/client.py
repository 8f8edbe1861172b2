"""The synchronous and the asynchronous client."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import Unpack

from contract import signatures as names
from contract.catalogue_changes import Upsert
from contract.catalogue_messages import (
    CatalogueChanged,
    CatalogueStatus,
    remove_fields,
    upsert_fields,
)
from contract.histories import Event, Profile
from contract.history_messages import ERASED, EventsAdded, erase_fields, event_fields
from contract.requests import RequestOptions, inputs_by_id, request_inputs
from contract.server_methods import (
    ADD_EVENTS,
    CATALOGUE_STATUS,
    ERASE_USERS,
    REMOVE_ITEMS,
    UPSERT_ITEMS,
)
from serving.client.categories import CategoryCheck
from serving.config import DEFAULT_MODEL_NAME, DEFAULT_REST_PORT
from serving.transports import (
    AsyncRestTransport,
    AsyncTransport,
    ClientError,
    Outputs,
    RestTransport,
    Signatures,
    Target,
    Transport,
)

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_REST_PORT}"

# Asks for every category, where a signature requires a limit.
_ALL = {names.LIMIT: np.iinfo(np.int32).max}


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
      item_id: The catalogue's id.
      score: Largest dot product with an interest; for an item recommended for its popularity, its
        count in the train split.
      interest: Interest that found the item, counted from 0 as in the outputs of
        ``user_interests``; -1 for popularity. Show people ``contract.signatures.interest_number``
        of it.
    """

    item_id: str
    score: float
    interest: int


class Client:
    """Synchronous client; threads may share it.

    The client always sends every input of the signature, since TF Serving's REST API has no default
    values. It asks the model once which inputs it has.

    Args:
      url: ``http://``, ``https://``, ``grpc://`` or ``grpcs://`` host:port.
      model: Model name.
      options: Further fields of ``Target``: version, label, timeout_seconds, ca_certificate,
        caller_key, token, token_file. Changing the catalogue may require another token than asking
        for recommendations, and so may storing and erasing histories.
    """

    def __init__(self, url: str = DEFAULT_URL, model: str = DEFAULT_MODEL_NAME, **options: Any):
        self._transport = _transport(Target(url, model, **options))
        self._signatures: Signatures | None = None
        self._categories = CategoryCheck()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections."""
        self._transport.close()

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = names.DEFAULT_K,
        **options: Unpack[RequestOptions],
    ) -> list[list[Recommendation]]:
        """Recommends items for people, in one request.

        If the catalogue does not have a listed category, an ``UnknownCategoryWarning`` names the
        nearest one; the request is answered nevertheless.

        Args:
          histories: Item ids of each person, oldest first; of any length.
          k: Number of items per person.
          options: Exclusions, times, profiles, diversity and category lists; see
            ``contract.requests.RequestOptions``.

        Returns:
          Items of each person, best first; fewer than ``k`` only if no more exist.

        Raises:
          ClientError: the server refused the request or cannot be reached.
          TypeError: an option does not exist.
          ValueError: an option does not have one entry for each history, or the model lacks its
            input, for example because it has no categories.
        """
        if self._signatures is None:
            self._signatures = self._transport.signatures()
        inputs = request_inputs(_inputs_of(self._signatures), histories, k, **options)
        return self._recommend(inputs, options)

    def recommend_by_id(
        self, user_ids: Sequence[str], k: int = names.DEFAULT_K, **options: Unpack[RequestOptions]
    ) -> list[list[Recommendation]]:
        """Recommends items to people whose histories the server keeps (``--history_store``).

        Args:
          user_ids: The people; someone without a stored history gets the most popular items.
          k: Number of items per person.
          options: See ``contract.requests.inputs_by_id``.

        Raises:
          ClientError: the server refused the request, keeps no histories, or cannot be reached.
          TypeError: an option does not exist.
          ValueError: as ``recommend``.
        """
        if self._signatures is None:
            self._signatures = self._transport.signatures()
        inputs = inputs_by_id(_inputs_of(self._signatures), user_ids, k, **options)
        return self._recommend(inputs, options)

    def _recommend(
        self, inputs: Mapping[str, Any], options: RequestOptions
    ) -> list[list[Recommendation]]:
        if self._categories.must_ask(options):
            found = self._transport.predict(names.LIST_CATEGORIES, _ALL)
            self._categories.learn(found[names.CATEGORIES].tolist())
        self._categories.warn(options)
        return _recommendations(self._transport.predict(names.SERVE, inputs))

    def titles(self, item_ids: Sequence[str]) -> list[str]:
        """Returns the titles of items; empty where the catalogue has none."""
        outputs = self.predict(names.ITEM_TITLES, {names.ITEMS: list(item_ids)})
        return outputs[names.TITLES].tolist()

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> Outputs:
        """Runs any signature.

        Args:
          signature: Name of the signature, such as ``user_interests``.
          inputs: Arrays or nested lists by input name.

        Returns:
          Arrays by output name; strings are ``object`` arrays of ``str``.

        Raises:
          ClientError: the server refused the request or cannot be reached.
        """
        return self._transport.predict(signature, inputs)

    def upsert_items(self, items: Mapping[str, Upsert], key: str = "") -> CatalogueChanged:
        """Adds or changes items of the live catalogue: either all of them or none.

        Once this returns, the server's answers reflect the changes.

        Args:
          items: Changes by item id; fields that an ``Upsert`` leaves out stay as they are. A
            feature is a number or a tuple of strings.
          key: Identifies the request. A request whose key was used in the last day is not carried
            out again, so a request that got no answer can be sent again, also to another server.

        Raises:
          ClientError: the server refused the request, has no live catalogue, or cannot be reached.
        """
        answer = self._transport.call(UPSERT_ITEMS, upsert_fields(items, key))
        return CatalogueChanged.from_fields(answer)

    def remove_items(self, item_ids: Sequence[str], key: str = "") -> CatalogueChanged:
        """Removes items from the live catalogue; see ``upsert_items``."""
        answer = self._transport.call(REMOVE_ITEMS, remove_fields(item_ids, key))
        return CatalogueChanged.from_fields(answer)

    def catalogue_status(self) -> CatalogueStatus:
        """Returns how much of the live catalogue has changed; see ``upsert_items``."""
        return CatalogueStatus.from_fields(self._transport.call(CATALOGUE_STATUS, {}))

    def add_events(
        self,
        events: Mapping[str, Sequence[Event]],
        profiles: Mapping[str, Profile] | None = None,
        key: str = "",
    ) -> EventsAdded:
        """Stores events and profiles of people (``--history_store``): either all or none.

        Once this returns, requests by id reflect them.

        Args:
          events: Events by the person's id, in any order; those stored before are ignored.
          profiles: Profiles by the person's id; each replaces the features that are stored.
          key: Identifies the request. A request whose key was used in the last day is not carried
            out again, so a request that got no answer can be sent again, also to another server.

        Raises:
          ClientError: the server refused the request, keeps no histories, or cannot be reached.
        """
        fields = event_fields(events, profiles or {}, key)
        return EventsAdded.from_fields(self._transport.call(ADD_EVENTS, fields))

    def erase_users(self, user_ids: Sequence[str]) -> int:
        """Erases all that the server's history store has about people.

        Args:
          user_ids: The people. Events from before the erasure are not accepted again.

        Returns:
          Of how many people the store had something.

        Raises:
          ClientError: as ``add_events``; send the request again if the server was unavailable.
        """
        return int(self._transport.call(ERASE_USERS, erase_fields(user_ids))[ERASED])


class AsyncClient:
    """Asynchronous client: has ``Client``'s methods as coroutines. Create it on its event loop."""

    def __init__(self, url: str = DEFAULT_URL, model: str = DEFAULT_MODEL_NAME, **options: Any):
        self._transport = _async_transport(Target(url, model, **options))
        self._signatures: Signatures | None = None
        self._categories = CategoryCheck()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes connections."""
        await self._transport.close()

    async def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = names.DEFAULT_K,
        **options: Unpack[RequestOptions],
    ) -> list[list[Recommendation]]:
        """See ``Client.recommend``."""
        if self._signatures is None:
            self._signatures = await self._transport.signatures()
        inputs = request_inputs(_inputs_of(self._signatures), histories, k, **options)
        return await self._recommend(inputs, options)

    async def recommend_by_id(
        self, user_ids: Sequence[str], k: int = names.DEFAULT_K, **options: Unpack[RequestOptions]
    ) -> list[list[Recommendation]]:
        """See ``Client.recommend_by_id``."""
        if self._signatures is None:
            self._signatures = await self._transport.signatures()
        inputs = inputs_by_id(_inputs_of(self._signatures), user_ids, k, **options)
        return await self._recommend(inputs, options)

    async def _recommend(
        self, inputs: Mapping[str, Any], options: RequestOptions
    ) -> list[list[Recommendation]]:
        if self._categories.must_ask(options):
            found = await self._transport.predict(names.LIST_CATEGORIES, _ALL)
            self._categories.learn(found[names.CATEGORIES].tolist())
        self._categories.warn(options)
        return _recommendations(await self._transport.predict(names.SERVE, inputs))

    async def titles(self, item_ids: Sequence[str]) -> list[str]:
        """See ``Client.titles``."""
        outputs = await self.predict(names.ITEM_TITLES, {names.ITEMS: list(item_ids)})
        return outputs[names.TITLES].tolist()

    async def predict(self, signature: str, inputs: Mapping[str, Any]) -> Outputs:
        """See ``Client.predict``."""
        return await self._transport.predict(signature, inputs)

    async def upsert_items(self, items: Mapping[str, Upsert], key: str = "") -> CatalogueChanged:
        """See ``Client.upsert_items``."""
        answer = await self._transport.call(UPSERT_ITEMS, upsert_fields(items, key))
        return CatalogueChanged.from_fields(answer)

    async def remove_items(self, item_ids: Sequence[str], key: str = "") -> CatalogueChanged:
        """See ``Client.remove_items``."""
        answer = await self._transport.call(REMOVE_ITEMS, remove_fields(item_ids, key))
        return CatalogueChanged.from_fields(answer)

    async def catalogue_status(self) -> CatalogueStatus:
        """See ``Client.catalogue_status``."""
        return CatalogueStatus.from_fields(await self._transport.call(CATALOGUE_STATUS, {}))

    async def add_events(
        self,
        events: Mapping[str, Sequence[Event]],
        profiles: Mapping[str, Profile] | None = None,
        key: str = "",
    ) -> EventsAdded:
        """See ``Client.add_events``."""
        fields = event_fields(events, profiles or {}, key)
        return EventsAdded.from_fields(await self._transport.call(ADD_EVENTS, fields))

    async def erase_users(self, user_ids: Sequence[str]) -> int:
        """See ``Client.erase_users``."""
        return int((await self._transport.call(ERASE_USERS, erase_fields(user_ids)))[ERASED])


def _transport(target: Target) -> Transport:
    if target.url.startswith(("http://", "https://")):
        return RestTransport(target)
    if target.url.startswith(("grpc://", "grpcs://")):
        # Imported here, because the stubs import TensorFlow, which takes seconds.
        from serving.grpc_transports import GrpcTransport

        return GrpcTransport(target)
    raise _bad_url(target.url)


def _async_transport(target: Target) -> AsyncTransport:
    if target.url.startswith(("http://", "https://")):
        return AsyncRestTransport(target)
    if target.url.startswith(("grpc://", "grpcs://")):
        from serving.grpc_transports import AsyncGrpcTransport

        return AsyncGrpcTransport(target)
    raise _bad_url(target.url)


def _bad_url(url: str) -> ValueError:
    return ValueError(
        f"url must start with http://, https://, grpc:// or grpcs://, got {url!r};"
        f" for example {DEFAULT_URL}"
    )


def _inputs_of(signatures: Signatures) -> Collection[str]:
    if names.SERVE not in signatures:
        raise ClientError("NOT_FOUND", f"the model has no signature {names.SERVE!r}")
    return signatures[names.SERVE].inputs


def _recommendations(outputs: Outputs) -> list[list[Recommendation]]:
    columns = (outputs[names.ITEM_IDS], outputs[names.SCORES], outputs[names.INTEREST_INDEX])
    return [
        [
            Recommendation(item, float(score), int(interest))
            for item, score, interest in zip(*row, strict=True)
            if item != names.PADDING  # rows with fewer than k items end in padding
        ]
        for row in zip(*(np.asarray(column).tolist() for column in columns), strict=True)
    ]
