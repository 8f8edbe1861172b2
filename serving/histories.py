"""The histories that the server keeps, and how they replace the id of a person.

A predict request may have ``user_id`` instead of ``history``. The server looks up the people of all
rows at once and fills in the inputs that a request with their histories would have. The model gets
the same inputs either way, and so gives the same answer.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2

from contract.features import HISTORY, HISTORY_TIME, USER_ID, USER_PREFIX
from contract.histories import NOBODY, Person, Retention
from contract.history_store import Batch, HistoryStore, HistoryStoreError, Outcome, open_store
from contract.signatures import PADDING, SERVE, UNKNOWN_TIME
from serving.config import ServerConfig
from serving.errors import ServingError, invalid_argument, not_found, unavailable
from serving.history_metrics import HistoryMetrics
from serving.limits import Limits
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.servable import Servable
from serving.signature import Signature, TensorSlot
from serving.threads import background_threads

_log = logging.getLogger(__name__)

_LOOKUP_THREADS: Final = 2
_PURGE_SECONDS: Final = 600.0
_PURGED_AT_ONCE: Final = 1000
_BY_ID: Final = TensorSlot("", tf.string, (None,))
_UNUSED: Final = np.empty(0)

_Value = TypeVar("_Value")


@dataclasses.dataclass(eq=False)
class _Waiting:
    batch: Batch
    result: "asyncio.Future[Outcome]"


@dataclasses.dataclass(eq=False)
class _ModelStore:
    """The store of one model, and the batches waiting to be written to it."""

    store: HistoryStore
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    pending: list[_Waiting] = dataclasses.field(default_factory=list)


class Histories:
    """Manages the histories of all models of a server; for use on one event loop.

    Args:
      config: Says where histories are kept, if at all.
      manager: Knows the models.
      metrics: The server's metrics.
      limits: Largest sizes of a request.
    """

    def __init__(
        self, config: ServerConfig, manager: ModelManager, metrics: Metrics, limits: Limits
    ):
        self._config = config
        self._manager = manager
        self._limits = limits
        self._stores: dict[str, _ModelStore] = {}
        self._purging: asyncio.Task[None] | None = None
        self.is_on = bool(config.history_store)
        if self.is_on:
            self._metrics = HistoryMetrics(metrics)
            # Requests wait for these reads, but for no writes of other requests.
            self._readers = ThreadPoolExecutor(_LOOKUP_THREADS, "history-lookups")
            self._writers = background_threads(1, "history-writes")

    def start(self) -> None:
        """Starts removing expired events; call it on the server's event loop."""
        if self.is_on:
            self._purging = asyncio.create_task(self._purge())

    async def close(self) -> None:
        """Stops what ``start`` began, and closes the stores."""
        if not self.is_on:
            return
        if self._purging is not None:
            self._purging.cancel()
            await asyncio.gather(self._purging, return_exceptions=True)
        self._readers.shutdown()
        for kept in self._stores.values():
            await self._run(self._writers, kept.store.close)
        self._writers.shutdown()

    def signatures(
        self, document: Mapping[str, Any], signatures: Mapping[str, Signature]
    ) -> Mapping[str, Signature]:
        """Returns the signatures for decoding a REST request: with ``user_id`` if it is given.

        Args:
          document: The request's body, as ``codec.parse_predict_document`` returns it.
          signatures: The signatures of the version.

        Raises:
          ServingError: INVALID_ARGUMENT; the request names a person, and no histories are kept.
        """
        name = document.get("signature_name") or SERVE
        signature = signatures.get(name)
        if signature is None or not _takes_people(signature) or not _names_people(document):
            return signatures
        self._check_is_on()
        # The request may leave out what the store has of a person; ``resolved`` fills it in.
        kept = {name: _UNUSED for name in signature.inputs if _is_kept(name)}
        with_id = dataclasses.replace(
            signature,
            inputs={**signature.inputs, USER_ID: _BY_ID},
            defaults={**signature.defaults, **kept},
        )
        return {**signatures, name: with_id}

    async def resolved(
        self, servable: Servable, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """Replaces people's ids in the inputs by their histories; leaves inputs without ids as is.

        Args:
          servable: The version that will answer.
          signature_name: One of its signatures.
          inputs: Arrays by input name, as the request has them.

        Raises:
          ServingError: INVALID_ARGUMENT; UNAVAILABLE if the store cannot be read.
        """
        signature = servable.model.signatures.get(signature_name)
        if USER_ID not in inputs or signature is None or not _takes_people(signature):
            return inputs
        self._check_is_on()
        ids = inputs[USER_ID]
        both = [name for name in (HISTORY, HISTORY_TIME) if name in inputs]
        if both:
            raise invalid_argument(
                f"The request has {USER_ID} and {' and '.join(both)}; send either {USER_ID}, so"
                " that the server looks the history up, or the history itself"
            )
        if ids.dtype != object or ids.ndim != 1:
            raise invalid_argument(
                f"{USER_ID} must be strings of shape [rows], got {ids.dtype} of shape"
                f" {list(ids.shape)}"
            )
        self._limits.check_rows(len(ids))
        store = (await self._kept(servable.name)).store
        started = time.monotonic()
        found, misses = await self._run(self._readers, _looked_up, store, ids, signature, inputs)
        self._metrics.lookup_latency.labels(servable.name).observe(time.monotonic() - started)
        self._metrics.lookups.labels(servable.name).inc(len(ids))
        self._metrics.misses.labels(servable.name).inc(misses)
        self._limits.check_shapes((name, value.shape) for name, value in found.items())
        return found

    def profile_features(self, name: str) -> set[str]:
        """Returns the profile features of the version that answers requests which name no version.

        Raises:
          ServingError: there is no such version.
        """
        signatures = self._manager.get(model_pb2.ModelSpec(name=name)).model.signatures
        inputs = signatures[SERVE].inputs if SERVE in signatures else {}
        return {i.removeprefix(USER_PREFIX) for i in inputs if i.startswith(USER_PREFIX)}

    async def add(self, name: str, batch: Batch) -> Outcome:
        """Writes a batch of events; once this returns, answers take it into account.

        Args:
          name: Name of the model.
          batch: The events and profiles to write.

        Raises:
          ServingError: there is no such model, or writing to the store failed.
        """
        kept = await self._kept(name)
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        kept.pending.append(waiting)
        try:
            async with kept.lock:
                # The first to get here writes all waiting batches, with one sync for all of them.
                if not waiting.result.done():
                    group, kept.pending = kept.pending, []
                    # A write that has begun is completed even if its caller disconnects.
                    await asyncio.shield(self._write(name, kept.store, group))
        finally:
            if waiting in kept.pending:
                kept.pending.remove(waiting)
        return waiting.result.result()

    async def erase(self, name: str, user_ids: Sequence[str]) -> int:
        """Erases people; returns how many of them had stored data.

        Args:
          name: Name of the model.
          user_ids: The people to erase.

        Raises:
          ServingError: there is no such model, or the erasure is not complete.
        """
        kept = await self._kept(name)
        async with kept.lock:
            erased = await asyncio.shield(self._run(self._writers, kept.store.erase, user_ids))
        self._metrics.erased.labels(name).inc(erased)
        return erased

    def _check_is_on(self) -> None:
        if not self.is_on:
            raise invalid_argument(
                f"The request has {USER_ID}, and this server keeps no histories: send {HISTORY},"
                " or start the server with --history_store"
            )

    async def _kept(self, name: str) -> _ModelStore:
        """Returns the store of a model, opening it on first use. Raises ServingError."""
        if name not in self._manager.model_names():
            raise not_found(f"There is no model named {name}")
        if name not in self._stores:
            config = self._config
            retention = Retention(config.history_max_events, config.history_days)
            store = await self._run(
                self._writers,
                lambda: open_store(config.history_store, name, retention, sync=config.history_sync),
            )
            if name in self._stores:  # another task opened it meanwhile
                await self._run(self._writers, store.close)
            else:
                self._stores[name] = _ModelStore(store)
        return self._stores[name]

    async def _write(self, name: str, store: HistoryStore, group: Sequence[_Waiting]) -> None:
        try:
            batches = [waiting.batch for waiting in group]
            outcomes = await self._run(self._writers, store.add, batches)
        except Exception as e:
            for waiting in group:
                if not waiting.result.done():
                    waiting.result.set_exception(e)
            return
        for waiting, outcome in zip(group, outcomes, strict=True):
            self._metrics.events.labels(name).inc(outcome.events)
            if not waiting.result.done():
                waiting.result.set_result(outcome)

    async def _purge(self) -> None:
        """Removes expired events periodically."""
        problem = ""
        while True:
            try:
                for name in self._manager.model_names():
                    store = (await self._kept(name)).store
                    removed = _PURGED_AT_ONCE
                    while removed == _PURGED_AT_ONCE:
                        removed = await self._run(self._writers, store.purge, _PURGED_AT_ONCE)
                        self._metrics.expired.labels(name).inc(removed)
                problem = ""
            except ServingError as e:
                if e.message != problem:
                    _log.error("expired events not removed", extra={"error": e.message})
                problem = e.message
            await asyncio.sleep(_PURGE_SECONDS)

    async def _run(
        self, threads: ThreadPoolExecutor, function: Callable[..., _Value], *arguments: Any
    ) -> _Value:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(threads, function, *arguments)
        except HistoryStoreError as e:
            self._metrics.failures.inc()
            raise unavailable(str(e)) from e


def _takes_people(signature: Signature) -> bool:
    """Whether a signature reads a history, and has no input of its own named ``user_id``.

    A model has such an input if it has a profile feature named "id".
    """
    return HISTORY in signature.inputs and USER_ID not in signature.inputs


def _is_kept(name: str) -> bool:
    """Whether an input describes a person, so that the store contains it."""
    return name in (HISTORY, HISTORY_TIME) or name.startswith(USER_PREFIX)


def _names_people(document: Mapping[str, Any]) -> bool:
    """Whether a request names people by id. Raises ServingError if only some of its rows do."""
    rows = document.get("instances", [document.get("inputs")])
    if not isinstance(rows, list):
        return False  # the codec reports what is wrong
    names = [isinstance(row, dict) and USER_ID in row for row in rows]
    if any(names) and not all(names):
        raise invalid_argument(
            f"Row {names.index(False)} of 'instances' has no {USER_ID}, but other rows have one;"
            " give it in all rows or in none"
        )
    return any(names)


def _looked_up(
    store: HistoryStore,
    ids: np.ndarray,
    signature: Signature,
    inputs: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], int]:
    """Returns inputs with histories in place of ids, and how many people have no events."""
    nobody = PADDING.encode()
    names = [user_id.decode(errors="surrogateescape") for user_id in ids if user_id != nobody]
    found = iter(store.read(names))
    people = [NOBODY if user_id == nobody else next(found) for user_id in ids]
    width = max((len(person.events) for person in people), default=0) or 1
    history = np.full([len(people), width], nobody, object)
    times = np.full([len(people), width], UNKNOWN_TIME, np.int64)
    for row, person in enumerate(people):
        size = len(person.events)
        history[row, :size] = [event.item_id.encode() for event in person.events]
        times[row, :size] = [event.time for event in person.events]
    result = {name: value for name, value in inputs.items() if name != USER_ID}
    result[HISTORY] = history
    if HISTORY_TIME in signature.inputs:
        result[HISTORY_TIME] = times
    for name in signature.inputs:
        if name.startswith(USER_PREFIX) and name not in inputs:
            values = _profile_values(people, name.removeprefix(USER_PREFIX))
            if values.any() or name not in signature.defaults:
                result[name] = values
    return result, sum(not person.events for person in people)


def _profile_values(people: Sequence[Person], feature: str) -> np.ndarray:
    values = np.empty(len(people), object)
    values[:] = [person.profile.features.get(feature, PADDING).encode() for person in people]
    return values
