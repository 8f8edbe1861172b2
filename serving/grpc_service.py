"""TF Serving's gRPC services: PredictionService and ModelService."""

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from contract.signatures import SERVE
from serving import tracing
from serving.admission import Admission, Call
from serving.codec_thread import CodecThread
from serving.config import ServerConfig
from serving.errors import RETRY_AFTER_SECONDS, ServingError, internal, invalid_argument, quoted
from serving.limits import Limits
from serving.metadata import model_metadata
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.predictor import Predictor
from serving.request_log import RequestLog
from serving.servable import Servable
from serving.signature import array_from_proto, array_to_proto, shape_from_proto
from serving.traffic import Outputs, Traffic

_log = logging.getLogger(__name__)

# How long a client should wait before it retries (gRPC's proposal A6 on retries).
_RETRY_LATER = (("grpc-retry-pushback-ms", str(1000 * RETRY_AFTER_SECONDS)),)
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])


def _answer(method: _Method) -> _Method:
    """Converts exceptions into gRPC statuses, and records the request."""

    @functools.wraps(method)
    async def wrapped(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
        tracing.return_to(context)
        spec = getattr(request, "model_spec", None)
        name = spec.name if spec is not None else ""
        with self.request_log.record("gRPC", method.__name__, name) as record:
            try:
                return await method(self, request, context)
            except ServingError as e:
                record.fail(e)
            except Exception as e:
                _log.exception("request failed")
                record.fail(internal(e))
        assert record.error is not None
        is_busy = record.error.code == grpc.StatusCode.UNAVAILABLE
        await context.abort(
            record.error.code, record.error.message, _RETRY_LATER if is_busy else ()
        )

    return wrapped  # type: ignore[return-value]


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Implements Predict and GetModelMetadata; other methods are UNIMPLEMENTED.

    Args:
      manager: Knows the model versions.
      traffic: Chooses the version that answers a request.
      predictor: Runs the requests.
      request_log: Records every request.
      admission: Admits requests.
      codec_thread: Decodes and encodes large messages.
      metrics: Records how long decoding and encoding take.
      limits: Largest inputs that are decoded.
      config: Contains the request timeout, and the metadata keys that identify the caller.
    """

    def __init__(
        self,
        manager: ModelManager,
        traffic: Traffic,
        predictor: Predictor,
        request_log: RequestLog,
        admission: Admission,
        codec_thread: CodecThread,
        metrics: Metrics,
        limits: Limits,
        config: ServerConfig,
    ):
        self._manager = manager
        self._traffic = traffic
        self._predictor = predictor
        self._admission = admission
        self._codec_thread = codec_thread
        self._decode_latency = metrics.decode_latency.labels("gRPC")
        self._encode_latency = metrics.encode_latency.labels("gRPC")
        self._limits = limits
        self._timeout_seconds = config.request_timeout_seconds
        self._key_header = config.caller_key_header.lower()
        self._share_header = config.share_header.lower()
        self.request_log = request_log

    @_answer
    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        headers = _metadata(context)
        flow = headers.get(self._share_header) or context.peer()
        key = headers.get(self._key_header, "")
        remaining = context.time_remaining()
        timeout = self._timeout_seconds
        deadline = time.monotonic() + (timeout if remaining is None else min(remaining, timeout))
        with self._admission.call(flow, key, request.ByteSize()) as call:
            return await self._answer_predict(request, call, deadline)

    async def _answer_predict(
        self, request: predict_pb2.PredictRequest, call: Call, deadline: float
    ) -> predict_pb2.PredictResponse:
        # The signature and the answer must come from the same version.
        async def attempt(servable: Servable) -> tuple[Outputs, Servable]:
            with self._decode_latency.time():
                inputs = await self._codec_thread.run(
                    call.num_bytes, _decode, request, self._limits
                )
            outputs = await self._predictor.predict(
                servable,
                request.model_spec.signature_name,
                inputs,
                request.output_filter,
                deadline - time.monotonic(),
                call,
            )
            return outputs, servable

        outputs, servable = await self._traffic.answer(request.model_spec, call.caller_key, attempt)
        model_spec = model_pb2.ModelSpec(
            name=servable.name,
            signature_name=request.model_spec.signature_name or SERVE,
        )
        model_spec.version.value = servable.version
        size = sum(value.nbytes for value in outputs.values())
        with self._encode_latency.time():
            return await self._codec_thread.run(size, _encode, model_spec, outputs)

    @_answer
    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures of a version."""
        return model_metadata(self._manager, request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Implements GetModelStatus, and HandleReloadConfigRequest if allowed.

    Args:
      manager: Knows the versions.
      request_log: Records every request.
      allow_reload: Whether clients may change which models are served.
      metrics: Supplies the metrics that a reload asks for.
    """

    def __init__(
        self,
        manager: ModelManager,
        request_log: RequestLog,
        allow_reload: bool,
        metrics: Metrics,
    ):
        self._manager = manager
        self._metrics = metrics
        self._allow_reload = allow_reload
        self.request_log = request_log

    @_answer
    async def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of a model's versions."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        return self._manager.status(request.model_spec)

    @_answer
    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.aio.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the set of served models."""
        if not self._allow_reload:
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                "Reloading the configuration is disabled; start the server with --allow_reload",
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only"
                " ModelConfigList is currently supported"
            )
        before = {name: self._metrics.first_value(name) for name in request.metric_names}
        await self._manager.configure(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(
                name=name, int64_value_increase=self._metrics.first_value(name) - value
            )
        return response


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    """Returns the metadata of a call as text, by key."""
    return {
        name: value if isinstance(value, str) else value.decode("utf-8", "replace")
        for name, value in context.invocation_metadata() or ()
    }


def _decode(request: predict_pb2.PredictRequest, limits: Limits) -> dict[str, np.ndarray]:
    shapes = {}
    for name, tensor in request.inputs.items():
        try:
            shapes[name] = shape_from_proto(tensor)
        except ValueError as e:
            raise invalid_argument(f"tensor parsing error: {quoted(name)} ({e})") from e
    # The shapes come first: a few bytes can encode a tensor of any size, because the last value is
    # repeated to fill the shape.
    limits.check_shapes(shapes.items())
    inputs = {}
    for name, tensor in request.inputs.items():
        try:
            inputs[name] = array_from_proto(tensor)
        except (ValueError, TypeError) as e:
            raise invalid_argument(f"tensor parsing error: {quoted(name)} ({e})") from e
    return inputs


def _encode(
    model_spec: model_pb2.ModelSpec, outputs: Mapping[str, np.ndarray]
) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse(model_spec=model_spec)
    for name, value in outputs.items():
        array_to_proto(value, response.outputs[name])
    return response
