"""A server whose catalogue can be changed, and what tests ask of it."""

from pathlib import Path
from typing import Any

import httpx

from tests.category_bundle import NUM_ITEMS
from tests.running_server import RunningServer
from tests.server_process import ServerProcess

ITEMS = "/v1/models/mind/items"
NEW = {"id": "new", "title": "A new one", "features": {"point": 1.0, "category": ["fresh"]}}
_ALL = NUM_ITEMS + 100

Server = RunningServer | ServerProcess


def serving(base: Path, log: str, **config: Any) -> RunningServer:
    """A server that follows a log, and looks at everything often."""
    return RunningServer(
        model_base_path=str(base),
        live_catalogue=log,
        file_system_poll_wait_seconds=0.05,
        live_catalogue_poll_seconds=0.05,
        **config,
    )


def found(server: Server, history: str = "1", **options: Any) -> set[str]:
    """Ids of everything that is recommended to somebody."""
    inputs = {
        "history": [[history]],
        "k": _ALL,
        "exclude": [[""]],
        "exclude_history": True,
        "diversity": 0.0,
        "user_taste": [""],
        **{name: [[""]] for name in ("allow_categories", "deny_categories")},
        **options,
    }
    answer = server.http.post("/v1/models/mind:predict", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return {item for item in answer.json()["outputs"]["item_ids"][0] if item}


def position(server: Server) -> int:
    """Up to where the server has applied the log."""
    return server.http.get(ITEMS).json()["position"]


def upsert(server: Server, *items: dict[str, Any], **fields: Any) -> httpx.Response:
    """Asks for changes."""
    return server.http.post(f"{ITEMS}:upsert", json={"items": list(items), **fields})


def remove(server: Server, *items: str, **fields: Any) -> httpx.Response:
    """Asks for removals."""
    return server.http.post(f"{ITEMS}:remove", json={"items": list(items), **fields})
