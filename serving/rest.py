"""TF Serving's REST API, with routes for health, metrics and the demo page."""

import asyncio
import json
import logging
import re
import time
import urllib.parse
import zlib
from collections.abc import Callable

import grpc
import prometheus_client
from aiohttp import web
from google.protobuf import json_format
from prometheus_client.openmetrics import exposition as openmetrics
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

from serving import codec, demo
from serving.admission import Admission, Call
from serving.browsers import BrowserGuard, cors_headers
from serving.catalogue_api import CatalogueApi
from serving.codec_thread import CodecThread
from serving.config import ServerConfig
from serving.errors import RETRY_AFTER_SECONDS, ServingError, internal, invalid_argument
from serving.histories_api import HistoriesApi
from serving.limits import Limits
from serving.metadata import SIGNATURE_DEF, model_metadata
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.predictor import Predictor
from serving.request_log import RequestLog
from serving.servable import Servable
from serving.traffic import Outputs, Traffic
from serving.versions import is_version

_log = logging.getLogger(__name__)

# TF Serving's two patterns (model_servers/http_rest_api_util.cc). They ignore case, but TF Serving
# then requires the right case of what they match.
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT_PATH = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>predict|classify|regress)",
    re.IGNORECASE | re.ASCII,
)
_MODEL_PATH = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<method>metadata))?",
    re.IGNORECASE | re.ASCII,
)
_NO_GZIP = "JSON Parse error: The document is empty: the body is not gzip, as its header says"
_API_PATH = "/{path:(?i:v1)/.*}"

# Paths of orchestrators' probes and of the metrics: our own, and TF Serving's.
PROBE_PATHS = _HEALTH, _READY = "/health", "/ready"
METRICS_PATHS = "/metrics", "/monitoring/prometheus/metrics"

_OPENMETRICS = "application/openmetrics-text"

_BYTES_PER_VALUE = 8  # approximate, for answers
_LARGE_ANSWER = 64 * 2**10  # bytes; larger answers wait for slow readers


class RestApi:
    """Routes of the HTTP port.

    Args:
      manager: Knows the model versions.
      traffic: Chooses the version that answers a request.
      predictor: Runs the requests.
      metrics: Metrics served at ``/metrics`` and at TF Serving's path.
      request_log: Records every API request.
      is_ready: Whether the server can answer for every model.
      is_draining: Whether the server is about to stop.
      admission: Admits predict requests.
      codec_thread: Decodes and encodes large bodies.
      limits: Largest inputs that are decoded.
      config: Contains the largest body size, the request timeout, and the headers that identify the
        caller.
      guard: Refuses requests sent by pages of other sites.
      has_cors: Whether answers have the headers that let pages of other sites read them.
      has_demo: Whether there is a demo page.
    """

    def __init__(
        self,
        manager: ModelManager,
        traffic: Traffic,
        predictor: Predictor,
        metrics: Metrics,
        request_log: RequestLog,
        is_ready: Callable[[], bool],
        is_draining: Callable[[], bool],
        admission: Admission,
        codec_thread: CodecThread,
        limits: Limits,
        config: ServerConfig,
        guard: BrowserGuard,
        has_cors: bool,
        has_demo: bool,
    ):
        self._manager = manager
        self._traffic = traffic
        self._predictor = predictor
        self._metrics = metrics
        self._request_log = request_log
        self._is_ready = is_ready
        self._is_draining = is_draining
        self._admission = admission
        self._codec_thread = codec_thread
        self._decode_latency = metrics.decode_latency.labels("REST")
        self._encode_latency = metrics.encode_latency.labels("REST")
        self._limits = limits
        self._timeout_seconds = config.request_timeout_seconds
        self._max_request_bytes = config.max_request_bytes
        self._key_header = config.caller_key_header
        self._share_header = config.share_header
        self._guard = guard
        self._has_cors = has_cors
        self._cors_headers = cors_headers(with_tokens=bool(config.auth_token_file))
        self._has_demo = has_demo
        self._has_tokens = bool(config.auth_token_file or config.live_catalogue_token_file)

    def application(
        self, catalogue: CatalogueApi | None = None, histories: HistoriesApi | None = None
    ) -> web.Application:
        """Creates the aiohttp application, with the routes of the enabled APIs."""
        app = web.Application(
            client_max_size=self._max_request_bytes, middlewares=[self._guard.middleware]
        )
        app.router.add_get(_HEALTH, self._health)
        app.router.add_get(_READY, self._ready)
        for path in METRICS_PATHS:
            app.router.add_get(path, self._prometheus)
        if self._has_demo:
            may_change = catalogue is not None and not self._has_tokens
            demo.add_routes(app, self._manager, may_change=may_change)
        for api in (catalogue, histories):
            if api is not None:
                api.add_to(app)
        app.router.add_route("OPTIONS", _API_PATH, self._preflight)
        app.router.add_route("*", _API_PATH, self._api)
        app.on_response_prepare.append(self._close_if_draining)
        if self._has_cors:
            app.on_response_prepare.append(self._add_cors_headers)
        return app

    async def _add_cors_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        if request.match_info.get("path"):
            response.headers.update(self._cors_headers)

    async def _close_if_draining(self, request: web.Request, response: web.StreamResponse) -> None:
        """Makes clients open a new connection, to another server, for their next request."""
        if self._is_draining():
            response.force_close()
            # aiohttp has written this header before the hook, to keep the connection open.
            response.headers["Connection"] = "close"

    async def _health(self, request: web.Request) -> web.Response:
        """Shows that the process responds; says nothing about models."""
        return web.json_response({"status": "alive"})

    async def _ready(self, request: web.Request) -> web.Response:
        """Tells a load balancer whether to send traffic here."""
        if self._is_draining():
            return web.json_response({"status": "draining"}, status=503)
        if not self._is_ready():
            return web.json_response({"status": "loading"}, status=503)
        return web.json_response({"status": "ready"})

    async def _prometheus(self, request: web.Request) -> web.Response:
        # Prometheus' own format does not support exemplars.
        is_openmetrics = _OPENMETRICS in request.headers.get("Accept", "")
        form = openmetrics if is_openmetrics else prometheus_client
        return web.Response(
            body=self._metrics.page(is_openmetrics=is_openmetrics),
            headers={"Content-Type": form.CONTENT_TYPE_LATEST},
        )

    async def _preflight(self, request: web.Request) -> web.Response:
        """Answers a browser that asks whether a page may send a request."""
        has_origin = re.search("https?://", request.headers.get("Origin", ""))
        return web.Response(status=200 if has_origin else 400)

    async def _api(self, request: web.Request) -> web.StreamResponse:
        path = request.url.raw_path
        pattern = {"POST": _PREDICT_PATH, "GET": _MODEL_PATH}.get(request.method)
        match = pattern.fullmatch(path) if pattern else None
        name = urllib.parse.unquote(match["name"] or "") if match else ""
        method = "malformed"
        if match and request.method == "GET":
            method = "metadata" if match["method"] == "metadata" else "status"
        elif match and match["method"] in ("predict", "classify", "regress"):
            method = match["method"]
        with self._request_log.record("REST", method, name) as record:
            try:
                if match is not None:
                    spec = _model_spec(name, match["version"], match["label"])
                if method == "malformed":
                    raise invalid_argument(f"Malformed request: {request.method} {path}")
                if request.method == "GET" and not name:
                    raise invalid_argument("Missing model name in request.")
                if method == "predict":
                    return await self._predict(request, spec)
                if method == "metadata":
                    body = self._metadata(spec)
                elif method == "status":
                    body = self._status(spec)
                else:
                    raise ServingError(
                        grpc.StatusCode.UNIMPLEMENTED,
                        f"Method {method} is not served; use :predict",
                    )
                return web.Response(body=body, content_type="application/json")
            except ServingError as e:
                error = e
            except web.HTTPRequestEntityTooLarge:
                error = ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"Request body is larger than the limit of {self._max_request_bytes} bytes",
                )
                record.fail(error)
                return _error_response(error, status=413, close=True)
            except (TimeoutError, asyncio.TimeoutError):
                error = ServingError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"The request took longer than the limit of {self._timeout_seconds:g} seconds"
                    " to arrive (request_timeout_seconds)",
                )
                record.fail(error)
                # Unlike with a slow model, the body never arrived here.
                return _error_response(error, status=408, close=True)
            except Exception as e:
                _log.exception("request failed")
                error = internal(e)
            record.fail(error)
            return _error_response(error)

    async def _predict(self, request: web.Request, spec: model_pb2.ModelSpec) -> web.StreamResponse:
        deadline = time.monotonic() + self._timeout_seconds
        headers = request.headers
        flow = headers.get(self._share_header) if self._share_header else None
        peer = request.transport.get_extra_info("peername") if request.transport else None
        num_bytes = request.content_length or 0
        if num_bytes > self._max_request_bytes:
            raise web.HTTPRequestEntityTooLarge(self._max_request_bytes, num_bytes)
        key = headers.get(self._key_header, "")
        with self._admission.call(flow or peer, key, num_bytes) as call:
            # A body that arrived together with its headers needs no timer.
            if num_bytes and request.content.is_eof():
                body = await request.read()
            else:
                body = await asyncio.wait_for(
                    self._read(request, call, num_bytes), self._timeout_seconds
                )
            if "gzip" in headers.get("Content-Encoding", ""):
                # Decompressed here and not by aiohttp: off the event loop, and as TF Serving does
                # it.
                body = await self._codec_thread.run(
                    self._max_request_bytes, _gunzip, body, self._max_request_bytes
                )
                call.read(len(body))
            answer = await self._answer(body, spec, call, deadline)
            response = web.Response(body=answer, content_type="application/json")
            if len(answer) > _LARGE_ANSWER:
                call.hold(len(answer))
                await self._write(request, response)
            return response

    async def _write(self, request: web.Request, response: web.Response) -> None:
        """Writes an answer, and holds its memory until a slow reader has read it.

        Raises:
          asyncio.CancelledError: the reader disconnected or took too long. No error can be sent any
            longer, because the answer has begun.
        """
        try:
            await response.prepare(request)
            await asyncio.wait_for(response.write_eof(), self._timeout_seconds)
        except (ConnectionError, TimeoutError, asyncio.TimeoutError):
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None

    async def _read(self, request: web.Request, call: Call, announced: int) -> bytes:
        """Reads a body; bytes beyond the announced length are counted as they arrive."""
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._max_request_bytes:
                raise web.HTTPRequestEntityTooLarge(self._max_request_bytes, len(body))
            if not announced:
                call.read(len(chunk))
        return bytes(body)

    async def _answer(
        self, body: bytes, spec: model_pb2.ModelSpec, call: Call, deadline: float
    ) -> bytes:
        # Done before the version is looked up, as in TF Serving, and only once for all attempts.
        started = time.monotonic()
        document = await self._codec_thread.run(
            len(body), codec.parse_predict_document, body, self._limits
        )
        parsed_in = time.monotonic() - started

        # The signature and the answer must come from the same version.
        async def attempt(servable: Servable) -> tuple[Outputs, bool]:
            started = time.monotonic()
            decoded = await self._codec_thread.run(
                len(body),
                codec.decode_predict_request,
                document,
                self._predictor.histories.signatures(document, servable.model.signatures),
                self._limits,
            )
            self._decode_latency.observe(parsed_in + time.monotonic() - started)
            outputs = await self._predictor.predict(
                servable,
                decoded.signature_name,
                decoded.inputs,
                output_filter=(),
                timeout_seconds=deadline - time.monotonic(),
                call=call,
            )
            return outputs, decoded.row_format

        outputs, row_format = await self._traffic.answer(spec, call.caller_key, attempt)
        size = sum(value.size for value in outputs.values()) * _BYTES_PER_VALUE
        with self._encode_latency.time():
            return await self._codec_thread.run(
                size, codec.format_predict_response, outputs, row_format
            )

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        return _to_json(self._manager.status(spec))

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[SIGNATURE_DEF]
        )
        response = model_metadata(self._manager, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        # As in TF Serving, without the type URL that an Any would add.
        return b'{"model_spec":%b,"metadata":{"signature_def":%b}}' % (
            _to_json(response.model_spec),
            _to_json(signatures),
        )


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    """Decompresses a body.

    Raises:
      HTTPRequestEntityTooLarge: the decompressed body is larger than ``max_bytes``.
      ServingError: INVALID_ARGUMENT; the body is not gzip, or is truncated. TF Serving would
        continue with an empty body.
    """
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # with the header of gzip
    try:
        decompressed = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as e:
        raise invalid_argument(f"{_NO_GZIP} ({e})") from e
    if len(decompressed) > max_bytes:
        raise web.HTTPRequestEntityTooLarge(max_bytes, len(decompressed))
    if not decompressor.eof:
        raise invalid_argument(f"{_NO_GZIP} (it ends too early)")
    return decompressed


def _model_spec(name: str, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        if not is_version(version):
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label is not None:
        spec.version_label = urllib.parse.unquote(label)
    return spec


def _to_json(message: object) -> bytes:
    fields = json_format.MessageToDict(
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )
    return json.dumps(fields, indent=1).encode()


def _error_response(
    error: ServingError, status: int | None = None, close: bool = False
) -> web.Response:
    response = web.Response(
        status=status or error.http_status,
        body=codec.format_error(error.message),
        content_type="application/json",
    )
    if error.code == grpc.StatusCode.UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if close:
        response.force_close()
    return response
