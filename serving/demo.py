"""The demo page and its title search.

The page gets all recommendations from the public ``:predict`` API, so it is also an example of how
to use the API. Only the title search needs routes of its own.
"""

import asyncio
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiohttp import web
from tensorflow_serving.apis import model_pb2

from contract.signatures import ITEM_IDS, LIMIT, LIST_ITEMS, OFFSET, TITLES
from serving.errors import ServingError
from serving.model_manager import ModelManager
from serving.saved_model import SavedModel

_STATIC = Path(__file__).parent / "static"
_PAGE = 50_000  # items read from the model in one run
_MAX_RESULTS = 50
_PAGE_HEADERS = {"Content-Security-Policy": "default-src 'self'; img-src data:"}


class ItemSearch:
    """Finds items by a part of their title or id, the most popular first.

    Args:
      model: A version with the ``list_items`` signature; without that signature, no item is found.
    """

    def __init__(self, model: SavedModel):
        ids: list[bytes] = []
        titles: list[bytes] = []
        while LIST_ITEMS in model.signatures:
            inputs = {
                OFFSET: np.array(len(ids), np.int32),
                LIMIT: np.array(_PAGE, np.int32),
            }
            page = model.run(LIST_ITEMS, inputs, (ITEM_IDS, TITLES))
            ids.extend(page[ITEM_IDS])
            titles.extend(page[TITLES])
            if len(page[ITEM_IDS]) < _PAGE:
                break
        # Arrow: a million Python strings would take ten times the memory.
        self._ids = _to_text(ids)
        self._titles = _to_text(titles)

    def find(self, query: str, limit: int = _MAX_RESULTS) -> list[dict[str, str]]:
        """Returns ``{"id", "title"}`` of the matching items, at most ``limit``."""
        query = query.strip()
        matches = pc.match_substring(self._titles, query, ignore_case=True)
        matches = pc.or_(matches, pc.equal(self._ids, query))
        rows = pc.indices_nonzero(matches)[:limit]
        return [
            {"id": item, "title": title}
            for item, title in zip(
                self._ids.take(rows).to_pylist(), self._titles.take(rows).to_pylist(), strict=True
            )
        ]


def add_routes(app: web.Application, manager: ModelManager, *, may_change: bool) -> None:
    """Adds ``/``, its static files and ``/demo/...`` to ``app``.

    Args:
      app: The application that gets the routes.
      manager: Finds the models.
      may_change: Whether the page may change the catalogue; it cannot send a token.
    """
    searches: weakref.WeakKeyDictionary[SavedModel, ItemSearch] = weakref.WeakKeyDictionary()
    building = asyncio.Lock()

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(_STATIC / "index.html", headers=_PAGE_HEADERS)

    async def models(request: web.Request) -> web.Response:
        return web.json_response(manager.model_names())

    async def features(request: web.Request) -> web.Response:
        return web.json_response({"mayChangeCatalogue": may_change})

    async def items(request: web.Request) -> web.Response:
        spec = model_pb2.ModelSpec(name=request.query.get("model", ""))
        try:
            with manager.get(spec).hold() as servable:
                async with building:
                    search = searches.get(servable.model)
                    if search is None:
                        search = await asyncio.to_thread(ItemSearch, servable.model)
                        searches[servable.model] = search
        except ServingError as e:
            return web.json_response({"error": e.message}, status=e.http_status)
        found = await asyncio.to_thread(search.find, request.query.get("q", ""))
        return web.json_response(found)

    app.router.add_get("/", page)
    app.router.add_get("/demo/models", models)
    app.router.add_get("/demo/features", features)
    app.router.add_get("/demo/items", items)
    app.router.add_static("/static/", _STATIC)


def _to_text(values: list[bytes]) -> pa.Array:
    return pa.array([value.decode("utf-8", "replace") for value in values], pa.large_string())
