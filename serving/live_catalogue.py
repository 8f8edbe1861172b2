"""Takes changes of the catalogue while the server runs, and keeps every version up to date.

A change is written to the log first, then applied to the versions in memory, and then
acknowledged. What other servers write to the same log is found by polling. A version that is
loaded catches up before it answers its first request.
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

# Items that are written and applied together, at most, of requests that wait.
_ITEMS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a request for changes.

    Attributes:
      position: Of the log, at which it is contained.
      without_vector: Its items that are in the catalogue and cannot be found, because the
        training knows none of their features.
      is_repeated: Whether a request of the same key was carried out before.
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
    """The live catalogues of all models of a server; for use on one event loop.

    Args:
      location: Where the logs are, see ``open_log``.
      manager: Hands out the versions; calls ``prepare`` for each that it loads.
      metrics: Counts changes, and shows how far the versions are.
      max_items: Added and changed items of a version, at most.
      poll_seconds: Time between two looks at the logs.
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
        """Polls the logs from now on."""
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Ends the polling, and lets go of the logs."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for catalogue in self._models.values():
            await catalogue.close()

    async def prepare(self, name: str, path: Path, model: SavedModel) -> None:
        """Brings a loaded version up to date; from then on it gets every change.

        Args:
          name: Name of the model.
          path: Directory of the version.
          model: The version.

        Raises:
          ServingError: the log cannot be read, or the version fails.
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
        """Makes changes: once this returns, requests are answered with them.

        Args:
          name: Name of the model.
          updates: Items and how they change.
          key: A request with the key of one that was carried out in the last day is not carried
            out again; empty is none.

        Raises:
          ServingError: the log cannot be written, there would be too many items, or no version
            takes changes.
        """
        self.stable(name)
        catalogue = await self._catalogue(name)
        outcome = await catalogue.change(updates, key, self._max_items)
        self._metrics.live_changes.labels(name).inc(0 if outcome.is_repeated else len(updates))
        return outcome

    def stable(self, name: str) -> LiveModel:
        """The version that answers requests which name none.

        Raises:
          ServingError: there is none, or it takes no changes.
        """
        servable = self._manager.get(model_pb2.ModelSpec(name=name))
        catalogue = self._models.get(name)
        live = catalogue.live_of(servable.model) if catalogue else None
        if live is None:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Version {servable.version} of model {name} takes no changes of its catalogue;"
                " set index.live_catalogue and push it again",
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
      metrics: Shows how far the versions are.
    """

    def __init__(self, name: str, log: ChangeLog, metrics: Metrics):
        self.log = log
        self._name = name
        self._metrics = metrics
        # Held while versions are made to have the same changes.
        self._lock = asyncio.Lock()
        self._threads = background_threads(1, "catalogue-changes")
        self._lives: list[LiveModel] = []
        self._pending: list[_Waiting] = []
        self._problem = ""

    def live_of(self, model: SavedModel) -> LiveModel | None:
        """What is known of the live catalogue of a version."""
        return next((live for live in self._lives if live.model is model), None)

    async def add(self, live: LiveModel, path: Path) -> None:
        """Brings a version up to date and keeps it so. Raises ServingError."""
        try:
            # Most of it while others go on; what they wrote meanwhile, alone.
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
                # Whoever comes first does the work of all that wait: one write for all of them.
                while not waiting.result.done():
                    group = self._next_group()
                    # What has begun is ended, though its caller may go away.
                    await asyncio.shield(self._write(group, max_items))
        finally:
            if waiting in self._pending:
                self._pending.remove(waiting)
        return waiting.result.result()

    async def follow(self) -> None:
        """Applies what other servers have written, and shows that it is applied."""
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
        """Lets go of the log."""
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
        """Writes what was not done before.

        Returns:
          The position of the last change, 0 if there is none, and the requests that are new.
        """
        while True:
            seen = await self._run(self.log.seen, [w.key for w in group if w.key])
            fresh: dict[str, _Waiting] = {}
            new: list[_Waiting] = []
            for waiting in group:
                # Two of one key in one group are one request, sent twice.
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
                    f" more may be beyond the limit of {max_items} (live_catalogue_max_items); run"
                    " item refresh, which puts them into a version",
                )
            try:
                return await self._run(self.log.append, updates, list(fresh)), new
            except RepeatedKeyError:
                # A caller has sent its request to another server as well, which was faster.
                continue

    async def _catch_up(self) -> None:
        """Applies the log to every version; one that fails does not stop the others."""
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
                "The changes are written, and a version could not apply them: it is tried again"
                f" ({failure})"
            )

    def _truncate(self, base_path: Path) -> None:
        """Drops what every version in the directory contains; what goes wrong changes nothing."""
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
