"""Serves a set of models on the REST and gRPC ports, in one process."""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
from pathlib import Path

import grpc
import tensorflow as tf
from aiohttp import web
from google.protobuf import text_format
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving import tls, tracing
from serving.admission import Admission
from serving.auth import Auth
from serving.batching import Runner
from serving.browsers import BrowserGuard
from serving.catalogue_api import CatalogueApi
from serving.codec_thread import CodecThread
from serving.config import ServerConfig
from serving.errors import ServingError
from serving.grpc_health import HealthService, add_to_server
from serving.grpc_messages import MessageReader
from serving.grpc_service import ModelService, PredictionService
from serving.histories import Histories
from serving.histories_api import HistoriesApi
from serving.integrity import verify_manifest
from serving.limits import Limits
from serving.live_catalogue import LiveCatalogue
from serving.loopback import is_loopback
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.predictor import Predictor
from serving.request_log import RequestLog
from serving.request_sampler import RequestSampler
from serving.rest import RestApi
from serving.saved_model import SavedModel, session_config
from serving.token_file import TokenFileError
from serving.traffic import Traffic
from serving.worker_board import State, Worker

_log = logging.getLogger(__name__)

_LINGERING_SECONDS = 1.0
# aiohttp waits this long, twice at most, for requests that have not ended within drain_seconds, and
# then cancels them.
_CLOSING_SECONDS = 2.0
_KEEPALIVE_SECONDS = 75.0  # an idle or silent connection is closed after this


class ModelServer:
    """Serves a set of models on both ports; for use on one event loop.

    Args:
      config: The configuration.
      worker: Place of this process among the workers behind the same ports; None if there is only
        one.

    Attributes:
      rest_port: The port in use, once started.
      grpc_port: The port in use, once started.
    """

    def __init__(self, config: ServerConfig, worker: Worker | None = None):
        self._config = config
        self._worker = worker
        self._is_listening = False
        self.metrics = Metrics(worker)
        self.manager = ModelManager(
            functools.partial(
                _load,
                config=session_config(
                    config.intra_op_threads, config.inter_op_threads, config.graph_optimization
                ),
            ),
            self.metrics,
            settle_seconds=config.settle_seconds,
        )
        self._runner = Runner(config.batching, self.metrics)
        self._draining = False
        self._watcher: asyncio.Task[None] | None = None
        self._traffic = Traffic(self.manager, self.metrics)
        self._codec_thread = CodecThread()
        admission = Admission(config, self._runner, self.metrics)
        limits = Limits.from_config(config)
        self._sampler = _sampler(config, self.metrics, worker)
        self._histories = Histories(config, self.manager, self.metrics, limits)
        predictor = Predictor(self._runner, self.metrics, limits, self._histories, self._sampler)
        self._request_log = RequestLog(
            self.metrics,
            self.manager.model_names,
            config.log_requests,
            with_content=config.log_request_content,
        )
        rest = RestApi(
            self.manager,
            self._traffic,
            predictor,
            self.metrics,
            self._request_log,
            is_ready=self._is_ready,
            is_draining=lambda: self._draining,
            admission=admission,
            codec_thread=self._codec_thread,
            limits=limits,
            config=config,
            guard=BrowserGuard(config.host, config.allowed_hosts),
            has_cors=config.rest_api_enable_cors_support,
            has_demo=config.demo == "on" or (config.demo == "auto" and is_loopback(config.host)),
        )
        self._auth = Auth(config, self._request_log)
        self._live: LiveCatalogue | None = None
        catalogue_api: CatalogueApi | None = None
        if config.live_catalogue:
            self._live = LiveCatalogue(
                config.live_catalogue,
                self.manager,
                self.metrics,
                max_items=config.live_catalogue_max_items,
                poll_seconds=config.live_catalogue_poll_seconds,
            )
            catalogue_api = CatalogueApi(self._live, self._request_log, config.max_request_bytes)
        histories_api: HistoriesApi | None = None
        if self._histories.is_on:
            histories_api = HistoriesApi(
                self._histories, self._request_log, config.max_request_bytes
            )
        app = rest.application(catalogue_api, histories_api)
        tracing.add_to(app)
        self._auth.add_to(app)
        self._http = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,  # no work for a client that has disconnected
            shutdown_timeout=_CLOSING_SECONDS,
            # How long to read on after refusing a body, so that the client sees why.
            lingering_time=_LINGERING_SECONDS,
            keepalive_timeout=_KEEPALIVE_SECONDS,
        )
        self._grpc = grpc.aio.server(
            interceptors=[
                tracing.GrpcTracing(),
                *self._auth.interceptors(),
                MessageReader(self._request_log),
            ],
            options=[
                ("grpc.max_receive_message_length", config.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                # A second server on the port is an error and must not share its traffic unnoticed;
                # the ports of workers are reserved by their supervisor.
                ("grpc.so_reuseport", int(worker is not None)),
            ],
            # More than the number that admission refuses with a reason and counts; gRPC itself
            # refuses the rest.
            maximum_concurrent_rpcs=2 * config.max_requests_under_way,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(
                self.manager,
                self._traffic,
                predictor,
                self._request_log,
                admission,
                self._codec_thread,
                self.metrics,
                limits,
                config,
            ),
            self._grpc,
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self.manager, self._request_log, config.allow_reload, self.metrics),
            self._grpc,
        )
        own_services = [
            api.add_to_grpc(self._grpc) for api in (catalogue_api, histories_api) if api is not None
        ]
        self._health = HealthService(
            self.manager, is_ready=self._is_ready, is_draining=lambda: self._draining
        )
        self.manager.on_change = self._changed
        add_to_server(self._health, self._grpc, own_services)
        self.rest_port = config.rest_port
        self.grpc_port = config.grpc_port

    async def start(self) -> None:
        """Opens both ports, loads the models, and starts watching for new versions.

        Raises:
          OSError: a port, a TLS file or the directory of samples cannot be used.
          ServingError: the model configuration is not valid.
        """
        config = self._config
        if self._sampler is not None:
            self._sampler.start()
        self._auth.start()
        if self._live is not None:
            self._live.start()
        if self._worker is None or self._worker.listens_first:
            await self._listen()
            await self.manager.configure(model_server_config(config))
        else:
            await self.manager.configure(model_server_config(config))
            while not self.manager.is_ready():
                await asyncio.sleep(config.file_system_poll_wait_seconds)
                await self.manager.poll()
            await self._listen()
        self._histories.start()
        self._watcher = asyncio.create_task(self._watch())

    async def _listen(self) -> None:
        config = self._config
        address = f"{config.host}:{config.grpc_port}"
        # gRPC raises RuntimeError if it cannot bind a port.
        try:
            credentials = tls.grpc_credentials(config)
            if credentials is not None:
                self.grpc_port = self._grpc.add_secure_port(address, credentials)
            else:
                self.grpc_port = self._grpc.add_insecure_port(address)
        except RuntimeError as e:
            raise OSError(f"gRPC cannot listen on {address}: {e}") from e
        await self._http.setup()
        site = web.TCPSite(
            self._http,
            config.host,
            config.rest_port,
            ssl_context=tls.rest_context(config),
            reuse_port=self._worker is not None,
        )
        await site.start()
        self.rest_port = self._http.addresses[0][1]
        await self._grpc.start()
        self._is_listening = True
        self._changed()
        _log.info(
            "listening",
            extra={"host": config.host, "rest_port": self.rest_port, "grpc_port": self.grpc_port},
        )

    async def _watch(self) -> None:
        """Polls base paths and judges canaries until cancelled."""
        while True:
            await asyncio.sleep(self._config.file_system_poll_wait_seconds)
            await self.manager.poll()
            await self._traffic.check()
            self._changed()  # another worker's state may have changed without notice here

    def _is_ready(self) -> bool:
        """Whether the server can answer for every model."""
        are_others = self._worker is None or self._worker.others_are_ready()
        return self.manager.is_ready() and are_others

    def _changed(self) -> None:
        """Tells the health service and the workers' board whether the server is ready."""
        if self._worker is not None and self._is_listening:
            self._worker.report(State.READY if self.manager.is_ready() else State.STARTING)
        self._health.notify()

    async def stop(self) -> None:
        """Refuses new requests, waits for running ones, and unloads the models."""
        self._draining = True
        self._is_listening = False
        if self._worker is not None:
            self._worker.report(State.ABSENT)
        self._health.notify()
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await self._auth.close()
        await asyncio.gather(self._grpc.stop(self._config.drain_seconds), self._stop_http())
        await self.manager.close()
        if self._live is not None:
            await self._live.close()
        await self._histories.close()
        self._runner.close()
        self._codec_thread.close()
        if self._sampler is not None:
            await asyncio.to_thread(self._sampler.close)
        _log.info("stopped")

    async def _stop_http(self) -> None:
        # aiohttp's own graceful shutdown is not enough: as soon as it begins, it discards arriving
        # data, including the rest of a body whose request it is waiting for.
        for site in [*self._http.sites]:
            await site.stop()
        await self._request_log.drained(self._config.drain_seconds)
        await self._http.cleanup()


async def serve(config: ServerConfig, worker: Worker | None = None) -> None:
    """Runs a server until SIGINT or SIGTERM, or until its supervisor is gone."""
    # The modules are never freed. Traversing their objects at each collection would pause
    # everything for half a second.
    gc.collect()
    gc.freeze()
    server = ModelServer(config, worker)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if worker is not None:
        loop.add_reader(worker.lifeline, _end, loop, worker.lifeline, stop)
    started = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({started, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            await stopping
    finally:
        for task in (started, stopping):
            task.cancel()
        await asyncio.gather(started, stopping, return_exceptions=True)
        await server.stop()


def _end(loop: asyncio.AbstractEventLoop, lifeline: int, stop: asyncio.Event) -> None:
    loop.remove_reader(lifeline)
    stop.set()


def run(config: ServerConfig, worker: Worker | None = None) -> int:
    """Serves until the process is asked to stop; returns its exit code.

    Errors that whoever starts the server can cause are logged.
    """
    try:
        asyncio.run(serve(config, worker))
    except (OSError, ServingError, TokenFileError, text_format.ParseError) as e:
        _log.error("cannot serve", extra={"error": str(e)})
        return 1
    return 0


def _sampler(
    config: ServerConfig, metrics: Metrics, worker: Worker | None
) -> RequestSampler | None:
    if not config.request_log_sample:
        return None
    directory = Path(config.request_log_dir)
    return RequestSampler(
        directory,
        config.request_log_sample,
        config.request_log_max_bytes,
        metrics,
        key_directory=directory if worker is None else directory.parent,
    )


def _load(path: Path, config: tf.compat.v1.ConfigProto) -> SavedModel:
    """Loads a version that is what was pushed, and replays its warm-up requests."""
    verify_manifest(path)
    loaded = SavedModel(path, config)
    try:
        loaded.warm_up(path)
    except ServingError:
        loaded.close()
        raise
    return loaded


def model_server_config(config: ServerConfig) -> model_server_config_pb2.ModelServerConfig:
    """Returns the models to serve: those of the file, or the one of the base path.

    Raises:
      OSError, text_format.ParseError: the file cannot be read.
    """
    result = model_server_config_pb2.ModelServerConfig()
    if config.model_config_file:
        text_format.Parse(Path(config.model_config_file).read_text(), result)
    else:
        result.model_config_list.config.add(
            name=config.model_name, base_path=config.model_base_path, model_platform="tensorflow"
        )
    return result
