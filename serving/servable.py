"""One version of a model as the server sees it: its state, and the requests that use it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from tensorflow_serving.apis import get_model_status_pb2

from serving.errors import ServingError
from serving.saved_model import SavedModel
from serving.versions import Snapshot

State = get_model_status_pb2.ModelVersionStatus.State


@dataclasses.dataclass(eq=False)
class Servable:
    """One version of a model, from its discovery to its unloading.

    Attributes:
      name: Model name.
      version: Version number.
      path: Version directory.
      state: Its state in TF Serving's terms; START while it waits to be loaded.
      error: Why it failed, or what it is waiting for.
      failed_files: Contents of the directory when loading failed.
      failed_at: Time of the failure, by the manager's clock.
    """

    name: str
    version: int
    path: Path
    state: int = State.START
    error: ServingError | None = None
    failed_files: Snapshot | None = None
    failed_at: float = 0.0
    _model: SavedModel | None = None
    _users: int = 0
    _idle: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    @property
    def model(self) -> SavedModel:
        """The loaded model; only for callers that hold the servable."""
        assert self._model is not None, f"{self.name}/{self.version} is not loaded"
        return self._model

    @property
    def is_available(self) -> bool:
        """Whether new requests may use it."""
        return self.state == State.AVAILABLE

    def serve(self, model: SavedModel) -> None:
        """Makes the version available to new requests, which run on ``model``."""
        self._model = model
        self.state = State.AVAILABLE

    def end(self, error: ServingError | None = None) -> None:
        """Takes the version out of service, with ``error`` if it failed, and releases its model."""
        self._model = None
        self.state = State.END
        self.error = error

    @contextlib.contextmanager
    def hold(self) -> Iterator["Servable"]:
        """Keeps the model in memory during a request."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def drained(self) -> None:
        """Waits until nobody holds the servable."""
        while self._users:
            self._idle.clear()
            await self._idle.wait()
