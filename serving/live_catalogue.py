"""Accepts changes of the catalogue while the server runs, and applies them to every version.

A change is written to the log first, then applied to the versions in memory, and then acknowledged.
Polling finds the changes that other servers write to the same log. A newly loaded version catches
up before it answers its first request.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_pb2

from contract.change_log import (
    ChangeLog,
    ChangeLogError,
    RepeatedKeyError,
    Update,
    open_log,
)
from contract.versions import is_version_name
from serving.errors import ServingError, unavailable
from serving.live_model import LiveModel, folded_position
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.saved_model import SavedModel
from serving.threads import background_threads

_log = logging.getLogger(__name__)

# Most items of waiting requests that are written and applied together.
_ITEMS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a change request.

    Attributes:
      position: Position in the log that contains the changes.
      without_vector: Items that are in the catalogue but cannot be found, because training knows
        none of their features.
      is_repeated: Whether a request with the same key was carried out before.
    """

    position: int
    without_vector: tuple[str, ...]
    is_repeated: bool


@dataclasses.dataclass(eq=False)
class _Waiting:
    updates: Sequence[tuple[str, Update]]
    key: str
    result: "asyncio.Future[Outcome]"


class LiveCatalogue:
    """Manages the live catalogues of all models of a server; for use on one event loop.

    Args:
      location: Where the logs are; see ``open_log``.
      manager: Provides the versions; calls ``prepare`` for each one that it loads.
      metrics: Counts changes, and reports how far each version has caught up.
      max_items: Most added and changed items of a version.
      poll_seconds: Time between two polls of the logs.
    """

    def __init__(
        self,
        location: str,
        manager: ModelManager,
        metrics: Metrics,
        *,
        max_items: int,
        poll_seconds: float,
    ):
        self._location = location
        self._manager = manager
        self._metrics = metrics
        self._max_items = max_items
        self._poll_seconds = poll_seconds
        self._models: dict[str, _ModelCatalogue] = {}
        self._watcher: asyncio.Task[None] | None = None
        manager.prepare = self.prepare

    def start(self) -> None:
        """Starts polling the logs."""
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stops polling, and closes the logs."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for catalogue in self._models.values():
            await catalogue.close()

    async def prepare(self, name: str, path: Path, model: SavedModel) -> None:
        """Brings a loaded version up to date; from then on it receives every change.

        Args:
          name: Name of the model.
          path: Directory of the version.
          model: The version.

        Raises:
          ServingError: the log cannot be read, or the version cannot apply a change.
        """
        try:
            catalogue = await self._catalogue(name)
            live = await asyncio.to_thread(LiveModel, model, path, catalogue.log.identity)
        except FileNotFoundError:
            _log.warning(
                "version takes no changes",
                extra={"model": name, "error": f"{path} was pushed without index.live_catalogue"},
            )
            return
        await catalogue.add(live, path)

    async def change(
        self, name: str, updates: Sequence[tuple[str, Update]], key: str = ""
    ) -> Outcome:
        """Makes changes; once this returns, answers reflect them.

        Args:
          name: Name of the model.
          updates: Changes by item.
          key: Identifies the request; a request whose key was used in the last day is not carried
            out again. Empty if there is no key.

        Raises:
          ServingError: the log cannot be written, there would be too many items, or no version
            accepts changes.
        """
        self.stable(name)
        catalogue = await self._catalogue(name)
        outcome = await catalogue.change(updates, key, self._max_items)
        self._metrics.live_changes.labels(name).inc(0 if outcome.is_repeated else len(updates))
        return outcome

    def stable(self, name: str) -> LiveModel:
        """Returns the version that answers requests which name no version.

        Raises:
          ServingError: there is none, or it does not accept changes.
        """
        servable = self._manager.get(model_pb2.ModelSpec(name=name))
        catalogue = self._models.get(name)
        live = catalogue.live_of(servable.model) if catalogue else None
        if live is None:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Version {servable.version} of model {name} does not accept changes of its"
                " catalogue; set index.live_catalogue and push the model again",
            )
        return live

    async def _catalogue(self, name: str) -> "_ModelCatalogue":
        if name not in self._models:
            try:
                log = await asyncio.to_thread(open_log, self._location, name)
            except ChangeLogError as e:
                raise unavailable(str(e)) from e
            self._models.setdefault(name, _ModelCatalogue(name, log, self._metrics))
        return self._models[name]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            for catalogue in self._models.values():
                await catalogue.follow()


class _ModelCatalogue:
    """The live catalogue of one model.

    Args:
      name: Name of the model.
      log: Its log.
      metrics: Reports how far each version has caught up.
    """

    def __init__(self, name: str, log: ChangeLog, metrics: Metrics):
        self.log = log
        self._name = name
        self._metrics = metrics
        # Held while the versions are brought to the same state.
        self._lock = asyncio.Lock()
        self._threads = background_threads(1, "catalogue-changes")
        self._lives: list[LiveModel] = []
        self._pending: list[_Waiting] = []
        self._problem = ""

    def live_of(self, model: SavedModel) -> LiveModel | None:
        """Returns the live catalogue of a version; None if there is none."""
        return next((live for live in self._lives if live.model is model), None)

    async def add(self, live: LiveModel, path: Path) -> None:
        """Brings a version up to date and keeps it so. Raises ServingError."""
        try:
            # Most of the log is applied while requests go on; the changes written meanwhile follow
            # under the lock.
            await asyncio.to_thread(live.catch_up, self.log)
            async with self._lock:
                await self._run(live.catch_up, self.log)
                self._lives.append(live)
        except ChangeLogError as e:
            raise unavailable(str(e)) from e
        self._show()
        await asyncio.to_thread(self._truncate, path.parent)

    async def change(
        self, updates: Sequence[tuple[str, Update]], key: str, max_items: int
    ) -> Outcome:
        """See ``LiveCatalogue``."""
        waiting = _Waiting(updates, key, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        try:
            async with self._lock:
                # The first to get here writes the changes of all waiting requests, in one write.
                while not waiting.result.done():
                    group = self._next_group()
                    # A write that has begun is completed even if its caller disconnects.
                    await asyncio.shield(self._write(group, max_items))
        finally:
            if waiting in self._pending:
                self._pending.remove(waiting)
        return waiting.result.result()

    async def follow(self) -> None:
        """Applies changes by other servers, and reports that they are applied."""
        try:
            last = await asyncio.to_thread(self.log.last)
            if any(live.position < last for live in self._lives if not live.model.is_closed):
                async with self._lock:
                    await self._catch_up()
            self._problem = ""
        except (ChangeLogError, ServingError) as e:
            if str(e) != self._problem:
                _log.error("catalogue not followed", extra={"model": self._name, "error": str(e)})
            self._problem = str(e)
        self._show()

    async def close(self) -> None:
        """Closes the log."""
        async with self._lock:
            await self._run(self.log.close)
        self._threads.shutdown()

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._pending and (not group or size < _ITEMS_AT_ONCE):
            group.append(self._pending.pop(0))
            size += len(group[-1].updates)
        return group

    async def _write(self, group: list[_Waiting], max_items: int) -> None:
        try:
            position, new = await self._append(group, max_items)
            await self._catch_up()
            position = position or await self._run(self.log.last)
            stable = self._lives[-1].without_vector if self._lives else set()
            for waiting in group:
                if not waiting.result.done():
                    blank = tuple(item for item, _ in waiting.updates if item in stable)
                    is_repeated = waiting not in new
                    waiting.result.set_result(Outcome(position, blank, is_repeated))
        except ChangeLogError as e:
            _fail(group, unavailable(str(e)))
        except Exception as e:
            _fail(group, e)
        self._show()

    async def _append(self, group: list[_Waiting], max_items: int) -> tuple[int, list[_Waiting]]:
        """Writes the changes of requests that were not carried out before.

        Returns:
          The position of the last change, or 0 if there is none, and the new requests.
        """
        while True:
            seen = await self._run(self.log.seen, [w.key for w in group if w.key])
            fresh: dict[str, _Waiting] = {}
            new: list[_Waiting] = []
            for waiting in group:
                # Two requests of one group with the same key are one request, sent twice.
                if waiting.key and (waiting.key in seen or waiting.key in fresh):
                    continue
                if waiting.key:
                    fresh[waiting.key] = waiting
                new.append(waiting)
            updates = [update for waiting in new for update in waiting.updates]
            if not updates:
                return 0, new
            num_slots = max((live.num_slots for live in self._lives), default=0)
            if num_slots + len(updates) > max_items:
                raise ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{num_slots} items were added or changed since the push, and {len(updates)}"
                    f" more could exceed the limit of {max_items} (live_catalogue_max_items); run"
                    " item refresh, which moves them into a new version",
                )
            try:
                return await self._run(self.log.append, updates, list(fresh)), new
            except RepeatedKeyError:
                # The caller has also sent its request to another server, which was faster.
                continue

    async def _catch_up(self) -> None:
        """Applies the log to every version; a failure of one does not stop the others."""
        self._lives = [live for live in self._lives if not live.model.is_closed]
        failure: Exception | None = None
        for live in self._lives:
            try:
                await self._run(live.catch_up, self.log)
            except ServingError as e:
                if not live.model.is_closed:
                    failure = e
        if failure is not None:
            raise unavailable(
                "The changes are written, but a version could not apply them yet; it will be tried"
                f" again ({failure})"
            )

    def _truncate(self, base_path: Path) -> None:
        """Drops changes that every version in the directory contains; errors have no effect."""
        try:
            self._drop_contained(base_path)
        except (ChangeLogError, OSError, ValueError) as e:
            _log.warning("changes not dropped", extra={"model": self._name, "error": str(e)})

    def _drop_contained(self, base_path: Path) -> None:
        identity = self.log.identity
        versions = [path for path in base_path.iterdir() if is_version_name(path.name)]
        folded = min((folded_position(path, identity) for path in versions), default=0)
        if folded:
            dropped = self.log.truncate(folded)
            if dropped:
                _log.info("changes dropped", extra={"model": self._name, "changes": dropped})

    def _show(self) -> None:
        lives = [live for live in self._lives if not live.model.is_closed]
        if lives:
            live = lives[-1]
            self._metrics.live_items.labels(self._name).set(live.num_slots)
            self._metrics.live_replaced.labels(self._name).set(live.num_replaced)
            changed = max(live.num_slots, live.num_replaced)
            self._metrics.live_share.labels(self._name).set(changed / live.num_pushed)
            self._metrics.live_position.labels(self._name).set(min(x.position for x in lives))
        self._metrics.live_followed.labels(self._name).set(0 if self._problem else time.time())

    async def _run(self, function, *arguments):  # type: ignore[no-untyped-def]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.result.done():
            waiting.result.set_exception(error)
