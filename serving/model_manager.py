"""Which versions of which models are in memory, and how they come and go.

The manager polls each model's base path and moves what is served towards what
the version policy wants: it loads before it unloads, so that there is no gap; a
version is unloaded once the last request that holds it has ended; and a directory
that is incomplete, still being written or broken never touches the version that
serves.

Everything but the loading itself runs on one event loop, so no locks are needed.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServingError, invalid_argument, not_found
from serving.metrics import Metrics
from serving.saved_model import SavedModel
from serving.versions import Snapshot, VersionPolicy, has_saved_model, list_versions

_log = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus.State


@dataclasses.dataclass(eq=False)
class Servable:
    """One version of a model, from its discovery to its end.

    Attributes:
      name: Model name.
      version: Version number.
      path: Version directory.
      state: TF Serving's state of it.
      error: Why it ended, if it failed.
      failed_files: What the directory held when loading it failed.
      failed_at: When that was (monotonic seconds).
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


@dataclasses.dataclass
class _Model:
    base_path: Path
    policy: VersionPolicy
    labels: dict[str, int]
    servables: dict[int, Servable] = dataclasses.field(default_factory=dict)

    def available(self) -> dict[int, Servable]:
        return {v: s for v, s in self.servables.items() if s.is_available}


class ModelManager:
    """Loads, swaps and hands out model versions.

    Args:
      load: Loads a version directory; blocks.
      metrics: Told of loads and of the versions that serve.
      settle_seconds: How long a directory must have been unchanged before it is
        loaded; guards against writers that do not rename into place.
      retry_seconds: When to try an unchanged broken version again.
    """

    def __init__(
        self,
        load: Callable[[Path], SavedModel],
        metrics: Metrics,
        *,
        settle_seconds: float = 1.0,
        retry_seconds: float = 60.0,
    ):
        self._load = load
        self._metrics = metrics
        self._settle_seconds = settle_seconds
        self._retry_seconds = retry_seconds
        self._models: dict[str, _Model] = {}
        self._reconciling = asyncio.Lock()
        # Apart from the threads that run models: a load takes long.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="model-loader")
        self._unloading: set[asyncio.Task[None]] = set()

    async def configure(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serves the models of ``config`` and no others, then polls once.

        Raises:
          ServingError: INVALID_ARGUMENT; what was served goes on being served.
        """
        models: dict[str, _Model] = {}
        for entry in config.model_config_list.config:
            if not entry.name or not entry.base_path:
                raise invalid_argument(
                    f"Model config needs a name and a base_path, got name {entry.name!r} and"
                    f" base_path {entry.base_path!r}"
                )
            if entry.name in models:
                raise invalid_argument(f"Model config names {entry.name} twice")
            if entry.model_platform not in ("", "tensorflow"):
                raise invalid_argument(
                    f"Model {entry.name} has model_platform {entry.model_platform!r}; only"
                    " 'tensorflow' can be served"
                )
            models[entry.name] = _Model(
                Path(entry.base_path),
                VersionPolicy.from_proto(entry.model_version_policy),
                dict(entry.version_labels),
            )
        async with self._reconciling:
            for name, old in self._models.items():
                if name in models and models[name].base_path == old.base_path:
                    models[name].servables = old.servables
                else:
                    for servable in old.available().values():
                        self._start_unload(servable)
            self._models = models
        await self.poll()

    async def poll(self) -> None:
        """Looks at every base path once and loads and unloads what follows."""
        async with self._reconciling:
            for name, model in self._models.items():
                await self._reconcile(name, model)

    async def watch(self, interval_seconds: float) -> None:
        """Polls for ever."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.poll()
            except Exception:
                # Whatever it was (an unreachable file system, say), what is
                # served goes on being served, and the next poll tries again.
                _log.exception("poll failed")

    def get(self, spec: model_pb2.ModelSpec) -> Servable:
        """The available version that a request asks for; call ``hold`` on it.

        Raises:
          ServingError: no name, an unknown model, version or label.
        """
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        model = self._models.get(spec.name)
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            if model is None or spec.version_label not in model.labels:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            version = model.labels[spec.version_label]
            wanted = f"Specific({spec.name}, {version})"
        elif choice == "version":
            version = spec.version.value
            wanted = f"Specific({spec.name}, {version})"
        else:
            version = max(model.available(), default=-1) if model else -1
            wanted = f"Latest({spec.name})"
        servable = model.servables.get(version) if model else None
        if servable is None or not servable.is_available:
            raise not_found(f"Servable not found for request: {wanted}")
        return servable

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """State of one version, or of all versions, of a model.

        Raises:
          ServingError: an unknown model, version or label.
        """
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        model = self._models.get(spec.name)
        servables = dict(sorted(model.servables.items(), reverse=True)) if model else {}
        choice = spec.WhichOneof("version_choice")
        if choice is not None:
            version = self.get(spec).version if choice == "version_label" else spec.version.value
            if version not in servables:
                raise not_found(f"Could not find version {version} of model {spec.name}")
            servables = {version: servables[version]}
        if not servables:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for servable in servables.values():
            entry = response.model_version_status.add(
                version=servable.version, state=servable.state
            )
            entry.status.SetInParent()
            if servable.error:
                entry.status.error_code = servable.error.code.value[0]
                entry.status.error_message = servable.error.message
        return response

    def is_ready(self) -> bool:
        """Whether every configured model has a version that serves."""
        return bool(self._models) and all(m.available() for m in self._models.values())

    def model_names(self) -> list[str]:
        """Names of the configured models."""
        return list(self._models)

    async def close(self) -> None:
        """Unloads everything, waiting for requests that still run."""
        async with self._reconciling:
            for model in self._models.values():
                for servable in model.available().values():
                    self._start_unload(servable)
            self._models = {}
        await asyncio.gather(*self._unloading)
        self._loader.shutdown()

    async def _reconcile(self, name: str, model: _Model) -> None:
        present = await asyncio.to_thread(list_versions, model.base_path)
        if not present:
            # An emptied or unmounted directory is not an order to stop serving.
            return
        # Newest first: a version that does not load is passed over, so a broken
        # newest version leaves the one before it serving, also after a restart.
        serving: set[int] = set()
        for version in model.policy.candidates(present):
            if len(serving) == model.policy.limit:
                break
            if await self._ensure_loaded(name, model, version, present[version]):
                serving.add(version)
        if serving:
            for version, servable in model.available().items():
                if version not in serving:
                    self._start_unload(servable)
        for version in set(model.servables) - set(present):
            if model.servables[version].state == State.END:
                del model.servables[version]

    async def _ensure_loaded(self, name: str, model: _Model, version: int, path: Path) -> bool:
        previous = model.servables.get(version)
        if previous is not None and previous.is_available:
            return True
        if previous is not None and previous.state == State.UNLOADING:
            return False
        if not await asyncio.to_thread(has_saved_model, path):
            return False
        files = await asyncio.to_thread(Snapshot.take, path)
        if not files.is_settled(self._settle_seconds):
            return False
        if (
            previous is not None
            and previous.failed_files == files
            and time.monotonic() - previous.failed_at < self._retry_seconds
        ):
            return False
        servable = Servable(name, version, path, state=State.LOADING)
        model.servables[version] = servable
        started = time.monotonic()
        try:
            servable._model = await self._load_unchanged(path, files)
        except ServingError as e:
            servable.state = State.END
            servable.error = e
            servable.failed_files, servable.failed_at = files, time.monotonic()
            self._metrics.model_loads.labels(name, "failure").inc()
            _log.error(
                "version not loaded",
                extra={"model": name, "version": version, "error": e.message},
            )
            return False
        servable.state = State.AVAILABLE
        self._metrics.model_loads.labels(name, "success").inc()
        self._metrics.version_available.labels(name, str(version)).set(1)
        _log.info(
            "version available",
            extra={
                "model": name,
                "version": version,
                "load_seconds": round(time.monotonic() - started, 3),
            },
        )
        return True

    async def _load_unchanged(self, path: Path, files: Snapshot) -> SavedModel:
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(self._loader, self._load, path)
        if await asyncio.to_thread(Snapshot.take, path) != files:
            # Parts of it may be of before and parts of after the change.
            await loop.run_in_executor(self._loader, loaded.close)
            raise ServingError(
                grpc.StatusCode.ABORTED, f"{path} changed while it was loaded; it is tried again"
            )
        return loaded

    def _start_unload(self, servable: Servable) -> None:
        servable.state = State.UNLOADING
        self._metrics.forget_version(servable.name, str(servable.version))
        task = asyncio.create_task(self._unload(servable))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unload(self, servable: Servable) -> None:
        await servable.drained()
        model, servable._model = servable.model, None
        await asyncio.get_running_loop().run_in_executor(self._loader, model.close)
        servable.state = State.END
        _log.info("version unloaded", extra={"model": servable.name, "version": servable.version})
