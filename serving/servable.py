"""One version of a model as the server sees it: its state, and who uses it."""

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
    """One version of a model, from its discovery to its end.

    Attributes:
      name: Model name.
      version: Version number.
      path: Version directory.
      state: TF Serving's state of it; START while it waits to be loaded.
      error: Why it ended, if it failed, or what it waits for.
      failed_files: What the directory held when loading it failed.
      failed_at: When that was, by the manager's clock.
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
        """The loaded model; only for one who holds the servable."""
        assert self._model is not None, f"{self.name}/{self.version} is not loaded"
        return self._model

    @property
    def is_available(self) -> bool:
        """Whether new requests may use it."""
        return self.state == State.AVAILABLE

    def serve(self, model: SavedModel) -> None:
        """Makes it available to new requests, with ``model`` as what runs."""
        self._model = model
        self.state = State.AVAILABLE

    def end(self, error: ServingError | None = None) -> None:
        """Ends it, because of ``error`` if it failed, and lets go of its model."""
        self._model = None
        self.state = State.END
        self.error = error

    @contextlib.contextmanager
    def hold(self) -> Iterator["Servable"]:
        """Keeps the model in memory for the length of a request."""
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
