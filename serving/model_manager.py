"""Manages which versions of which models are in memory.

The manager polls each model's base path and brings the served versions in line with the version
policy. It loads new versions before it unloads old ones, so that there is no gap. It unloads a
version once the last request that holds it has ended. A directory that is incomplete, still being
written or broken never affects the version that is being served.

Everything but the loading runs on one event loop, so no locks are needed.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.configured_model import ConfiguredModel, check_labels, from_config
from serving.errors import ServingError, invalid_argument, load_error, not_found
from serving.metrics import Metrics
from serving.release_watch import mismatch, read_release, wanted_canary, wanted_release
from serving.release_watch import note as note_release
from serving.saved_model import SavedModel
from serving.servable import Servable, State
from serving.threads import background_threads
from serving.versions import Listing, Snapshot, files_of_model

_log = logging.getLogger(__name__)

_SETTLING_TIMES = 2  # how long a reload waits for files to settle, in units of settle_seconds
_LOOK_AGAIN_SECONDS = 0.05


class ModelManager:
    """Loads, replaces and hands out model versions.

    Args:
      load: Loads a version directory; blocks.
      metrics: Records loads and the versions that are served.
      settle_seconds: How long a directory must have been unchanged before it is loaded; guards
        against writers that do not rename finished directories into place.
      retry_seconds: Time after which a broken version that has not changed is tried again.
      clock: Returns the current time in seconds, for both of these.

    Attributes:
      on_change: Called when the set of served models or versions has changed.
      prepare: Awaited with a loaded version before it is served; an exception fails the load.
    """

    def __init__(
        self,
        load: Callable[[Path], SavedModel],
        metrics: Metrics,
        *,
        settle_seconds: float = 1.0,
        retry_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._load = load
        self._metrics = metrics
        self._settle_seconds = settle_seconds
        self._retry_seconds = retry_seconds
        self._clock = clock
        self.on_change: Callable[[], None] = lambda: None
        self.prepare: Callable[[str, Path, SavedModel], Awaitable[None]] | None = None
        self._models: dict[str, ConfiguredModel] = {}
        self._reconciling = asyncio.Lock()
        # Separate from the threads that run models, because loading takes long.
        self._loader = background_threads(1, "model-loader")
        self._unloading: set[asyncio.Task[None]] = set()

    async def configure(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serves the models of ``config`` and no others, after polling once.

        Raises:
          ServingError: INVALID_ARGUMENT for an invalid configuration, and FAILED_PRECONDITION if a
            model that it adds has no version; the previous models stay in service.
            FAILED_PRECONDITION also for a label of a version that is not served; the labels are
            unchanged then.
        """
        models = from_config(config)
        async with self._reconciling:
            before = self._models
            await self._replace(models)
        if not before:
            await self.poll()
            return
        await self._settled(self.poll, lambda: any(m.label_settles() for m in models.values()))
        check_labels(self._models, before)

    async def _replace(self, models: dict[str, ConfiguredModel]) -> None:
        """Replaces the served models by ``models``; new ones are loaded first."""
        is_first = not self._models
        added = []
        for name, model in models.items():
            old = self._models.get(name)
            if old is not None and old.base_path == model.base_path:
                model.continues(old)
            else:
                added.append(model)
        for model in () if is_first else added:
            await self._settled(
                functools.partial(self._reconcile_safely, model), model.first_settles
            )
            if not model.available():
                for loaded in added:
                    self._withdraw(loaded)
                raise ServingError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"No version of model {model.name} can be served: {model.why_nothing()}."
                    " The previous models stay in service",
                )
        before, self._models = self._models, models
        for name, old in before.items():
            if name not in models:
                self._metrics.forget_release(name)
            if name not in models or models[name].servables is not old.servables:
                self._withdraw(old)
        self.on_change()

    async def _settled(
        self, look: Callable[[], Awaitable[None]], waits: Callable[[], bool]
    ) -> None:
        """Calls ``look`` repeatedly while ``waits`` says that files only need to settle."""
        until = self._clock() + _SETTLING_TIMES * self._settle_seconds
        await look()
        while waits() and self._clock() < until:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            await look()

    async def poll(self) -> None:
        """Inspects every base path once, and loads and unloads versions accordingly."""
        async with self._reconciling:
            for model in self._models.values():
                await self._reconcile_safely(model)

    def get(self, spec: model_pb2.ModelSpec) -> Servable:
        """Returns the available version that a request asks for; call ``hold`` on it.

        Raises:
          ServingError: the request names no model, or an unknown model, version or label.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            labelled = model.version_of(spec.version_label) if model else None
            if labelled is None:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            version = labelled
            wanted = f"Specific({spec.name}, {version})"
        elif choice == "version":
            version = spec.version.value
            wanted = f"Specific({spec.name}, {version})"
        else:
            version = model.default_version() if model else -1
            wanted = f"Latest({spec.name})"
        servable = model.servables.get(version) if model else None
        if servable is None or not servable.is_available:
            raise not_found(f"Servable not found for request: {wanted}")
        return servable

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the state of one version, or of all versions, of a model.

        Raises:
          ServingError: the model, version or label is unknown.
        """
        model = self._models.get(spec.name)
        servables = dict(sorted(model.servables.items(), reverse=True)) if model else {}
        choice = spec.WhichOneof("version_choice")
        if choice is not None:
            version = self.get(spec).version if choice == "version_label" else spec.version.value
            if version not in servables:
                raise not_found(f"Could not find version {version} of model {spec.name}")
            servables = {version: servables[version]}
        if not servables:
            why = f": {model.why_nothing()}" if model else ""
            raise not_found(f"Could not find any versions of model {spec.name}{why}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for servable in servables.values():
            entry = response.model_version_status.add(
                version=servable.version, state=servable.state
            )
            entry.status.SetInParent()
            if servable.error:
                entry.status.error_code = servable.error.code.value[0]
                entry.status.error_message = servable.error.message
            elif model and servable.version == model.stable:
                # TF Serving's message has no other field for it.
                entry.status.error_message = model.release_problem
        return response

    def is_ready(self) -> bool:
        """Whether every configured model has a version that is being served."""
        return bool(self._models) and all(m.available() for m in self._models.values())

    def model(self, name: str) -> ConfiguredModel:
        """Returns a configured model.

        Raises:
          KeyError: there is no model of this name.
        """
        return self._models[name]

    def models(self) -> list[ConfiguredModel]:
        """Returns the configured models."""
        return list(self._models.values())

    def model_names(self) -> list[str]:
        """Returns the names of the configured models."""
        return list(self._models)

    async def close(self) -> None:
        """Unloads everything, waiting for requests that are still running."""
        async with self._reconciling:
            before, self._models = self._models, {}
            for model in before.values():
                self._withdraw(model)
        await asyncio.gather(*self._unloading)
        self._loader.shutdown()

    async def _reconcile_safely(self, model: ConfiguredModel) -> None:
        """Reconciles one model, without letting its failures affect the others."""
        problem = ""
        try:
            await self._reconcile(model)
        except OSError as e:
            # The served versions stay in service, and the next poll tries again.
            problem = f"its base path {model.base_path} cannot be read ({e.strerror or e})"
        except Exception as e:
            problem = f"its base path {model.base_path} cannot be used ({type(e).__name__}: {e})"
            if problem != model.problem:
                _log.exception("model cannot be reconciled", extra={"model": model.name})
        if problem and problem != model.problem:
            _log.error("base path ignored", extra={"model": model.name, "error": problem})
        model.problem = problem

    async def _reconcile(self, model: ConfiguredModel) -> None:
        listing = await asyncio.to_thread(Listing.read, model.base_path)
        for entry, reason in listing.ignored.items() - model.ignored.items():
            _log.warning(
                "entry ignored", extra={"model": model.name, "entry": entry, "error": reason}
            )
        model.ignored = listing.ignored
        present = listing.versions
        if not present:
            # An emptied or unmounted directory does not mean that serving should stop.
            return
        unread = await read_release(model)
        serving = await self._load_wanted(model, present)
        if serving:
            for version, servable in model.available().items():
                if version not in serving:
                    self._start_unload(servable)
        for version in set(model.servables) - set(present):
            if model.servables[version].state in (State.START, State.END):
                del model.servables[version]
            model.seen.pop(version, None)
        note_release(model, unread or mismatch(model, present), self._metrics)

    async def _load_wanted(self, model: ConfiguredModel, present: Mapping[int, Path]) -> set[int]:
        """Loads the versions that policy and release state want; returns those that are served."""
        release = wanted_release(model)
        trial = wanted_canary(model)
        if model.canary != trial:
            model.canary = None
        # Start with the best: a version that does not load is skipped, so a broken newest version
        # leaves the one before it in service, also after a restart.
        serving: list[int] = []
        for version in model.policy.candidates(present, release, model.stable):
            if len(serving) == model.policy.limit:
                break
            if await self._ensure_loaded(model, version, present[version]):
                if not serving:
                    model.stable = version
                serving.append(version)
        if (
            trial is not None
            and trial in present
            and trial != model.stable
            and await self._ensure_loaded(model, trial, present[trial])
        ):
            model.canary = trial
            serving.append(trial)
        return set(serving)

    async def _ensure_loaded(self, model: ConfiguredModel, version: int, path: Path) -> bool:
        """Loads a version unless it is served already; returns whether it is served."""
        previous = model.servables.get(version)
        if previous is not None and previous.is_available:
            return True
        if previous is not None and previous.state == State.UNLOADING:
            return False
        servable = Servable(model.name, version, path)
        try:
            files = await asyncio.to_thread(files_of_model, path)
        except OSError as e:
            servable.end(load_error(path, e))
            model.note(servable, previous)
            return False
        if waits_for := self._waits_for(model, version, files):
            servable.error = ServingError(grpc.StatusCode.UNAVAILABLE, f"{path} {waits_for}")
            model.note(servable, previous)
            return False
        assert files is not None
        if (
            previous is not None
            and previous.failed_files == files
            and self._clock() - previous.failed_at < self._retry_seconds
        ):
            return False
        servable.state = State.LOADING
        model.servables[version] = servable
        started = self._clock()
        try:
            loaded = await self._load_unchanged(path, files)
            try:
                if self.prepare is not None:
                    await self.prepare(model.name, path, loaded)
            except BaseException:
                await asyncio.get_running_loop().run_in_executor(self._loader, loaded.close)
                raise
            servable.serve(loaded)
            self.on_change()
        except Exception as e:
            servable.end(load_error(path, e))
            servable.failed_files, servable.failed_at = files, self._clock()
            self._metrics.model_loads.labels(model.name, "failure").inc()
            model.note(servable, previous)
            return False
        model.seen.pop(version, None)
        self._metrics.model_loads.labels(model.name, "success").inc()
        self._metrics.version_available.labels(model.name, str(version)).set(1)
        seconds = self._clock() - started
        _log.info(
            "version available",
            extra={"model": model.name, "version": version, "load_seconds": round(seconds, 3)},
        )
        return True

    def _waits_for(self, model: ConfiguredModel, version: int, files: Snapshot | None) -> str:
        """Returns what must happen before ``files`` are loaded; empty if they can be loaded now."""
        if files is None:
            return "has no saved_model.pb; it will be loaded once it has one"
        if files.is_older_than(self._settle_seconds):
            return ""
        # The clock of a file system may differ from that of this machine, so a directory that was
        # seen unchanged for long enough also counts as settled.
        seen, since = model.seen.get(version, (None, 0.0))
        if seen != files:
            since = self._clock()
            model.seen[version] = files, since
        if self._clock() - since >= self._settle_seconds:
            return ""
        return (
            f"will be loaded once its files have not changed for {self._settle_seconds:g} seconds"
            " (settle_seconds)"
        )

    async def _load_unchanged(self, path: Path, files: Snapshot) -> SavedModel:
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(self._loader, self._load, path)
        if await asyncio.to_thread(Snapshot.take, path) != files:
            # The loaded version may mix files from before and after the change.
            await loop.run_in_executor(self._loader, loaded.close)
            raise ServingError(
                grpc.StatusCode.ABORTED, f"{path} changed while it was loaded; it will be retried"
            )
        return loaded

    def _withdraw(self, model: ConfiguredModel) -> None:
        """Unloads all versions of a model that is no longer configured."""
        for servable in model.available().values():
            self._start_unload(servable)

    def _start_unload(self, servable: Servable) -> None:
        servable.state = State.UNLOADING
        current = self._models.get(servable.name)
        # The same version from another base path may have replaced it.
        if current is None or servable.version not in current.available():
            self._metrics.forget_version(servable.name, str(servable.version))
        self.on_change()
        task = asyncio.create_task(self._unload(servable))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unload(self, servable: Servable) -> None:
        await servable.drained()
        model = servable.model
        servable.end()
        await asyncio.get_running_loop().run_in_executor(self._loader, model.close)
        _log.info("version unloaded", extra={"model": servable.name, "version": servable.version})
