"""TF Serving's gRPC services: PredictionService and ModelService."""

import asyncio
import functools
import logging
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
from serving.errors import ServingError, internal, invalid_argument, quoted
from serving.limits import Limits
from serving.metadata import model_metadata
from serving.model_manager import ModelManager
from serving.predictor import Predictor
from serving.request_log import RequestLog
from serving.servable import Servable
from serving.signature import array_from_proto, array_to_proto, shape_from_proto
from serving.traffic import Outputs, Traffic

_log = logging.getLogger(__name__)

_LARGE_MESSAGE = 64 * 2**10  # bytes
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])


def _answer(method: _Method) -> _Method:
    """Turns exceptions into gRPC statuses, and records the request."""

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
        await context.abort(record.error.code, record.error.message)

    return wrapped  # type: ignore[return-value]


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; other methods are UNIMPLEMENTED.

    Args:
      manager: Knows the model versions.
      traffic: Hands requests to them.
      predictor: Runs them.
      request_log: Records every request.
      timeout_seconds: Longest a request may take.
      limits: Largest inputs that are decoded.
      key_header: Metadata key with the key by which requests are split between versions.
    """

    def __init__(
        self,
        manager: ModelManager,
        traffic: Traffic,
        predictor: Predictor,
        request_log: RequestLog,
        timeout_seconds: float,
        limits: Limits,
        key_header: str,
    ):
        self._manager = manager
        self._traffic = traffic
        self._predictor = predictor
        self._timeout_seconds = timeout_seconds
        self._limits = limits
        self._key_header = key_header.lower()
        self.request_log = request_log

    @_answer
    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        key = _metadata_value(context, self._key_header)

        # Signature and answer are of the same version.
        async def attempt(servable: Servable) -> tuple[Outputs, Servable]:
            # Large messages are decoded on another thread, so that the event loop stays free.
            if request.ByteSize() > _LARGE_MESSAGE:
                inputs = await asyncio.to_thread(_decode, request, self._limits)
            else:
                inputs = _decode(request, self._limits)
            remaining = context.time_remaining()
            outputs = await self._predictor.predict(
                servable,
                request.model_spec.signature_name,
                inputs,
                request.output_filter,
                self._timeout_seconds
                if remaining is None
                else min(remaining, self._timeout_seconds),
                caller_key=key,
            )
            return outputs, servable

        outputs, servable = await self._traffic.answer(request.model_spec, key, attempt)
        model_spec = model_pb2.ModelSpec(
            name=servable.name,
            signature_name=request.model_spec.signature_name or SERVE,
        )
        model_spec.version.value = servable.version
        if sum(value.nbytes for value in outputs.values()) > _LARGE_MESSAGE:
            return await asyncio.to_thread(_encode, model_spec, outputs)
        return _encode(model_spec, outputs)

    @_answer
    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures of a version."""
        return model_metadata(self._manager, request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus, and HandleReloadConfigRequest if allowed.

    Args:
      manager: Knows the versions.
      request_log: Records every request.
      allow_reload: Whether clients may change what is served.
    """

    def __init__(self, manager: ModelManager, request_log: RequestLog, allow_reload: bool):
        self._manager = manager
        self._allow_reload = allow_reload
        self.request_log = request_log

    @_answer
    async def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Tells the state of a model's versions."""
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
                "Reloading the configuration is off; start the server with --allow_reload",
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument("ReloadConfigRequest must have a model_config_list")
        await self._manager.configure(request.config)
        return model_management_pb2.ReloadConfigResponse()


def _metadata_value(context: grpc.aio.ServicerContext, key: str) -> str:
    """The value of a metadata key of a call; empty if it has none."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
    return ""


def _decode(request: predict_pb2.PredictRequest, limits: Limits) -> dict[str, np.ndarray]:
    try:
        # First: a few bytes can stand for a tensor of any size, since the last value is
        # repeated up to the shape.
        limits.check_shapes(
            (name, shape_from_proto(tensor)) for name, tensor in request.inputs.items()
        )
        return {name: array_from_proto(tensor) for name, tensor in request.inputs.items()}
    except (ValueError, TypeError, KeyError) as e:
        raise invalid_argument(f"tensor parsing error: {quoted(str(e))}") from e


def _encode(
    model_spec: model_pb2.ModelSpec, outputs: Mapping[str, np.ndarray]
) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse(model_spec=model_spec)
    for name, value in outputs.items():
        array_to_proto(value, response.outputs[name])
    return response
