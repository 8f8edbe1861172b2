"""The client's gRPC transports, synchronous and asynchronous."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format, struct_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from contract.server_methods import MODEL, ServerMethod
from serving.transports import (
    ClientError,
    Inputs,
    Outputs,
    SignatureNames,
    Signatures,
    Target,
)

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_SECURE_SCHEME = "grpcs://"


class GrpcTransport:
    """Transport over TF Serving's PredictionService."""

    def __init__(self, target: Target):
        address, credentials = _address(target)
        self._channel = (
            grpc.secure_channel(address, credentials, _OPTIONS)
            if credentials
            else grpc.insecure_channel(address, _OPTIONS)
        )
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._target = target

    def predict(self, signature: str, inputs: Inputs) -> Outputs:
        """See ``Transport``."""
        request = _predict_request(self._target, signature, inputs)
        try:
            return _outputs(
                self._stub.Predict(
                    request, self._target.timeout_seconds, metadata=_metadata(self._target)
                )
            )
        except grpc.RpcError as e:
            raise _error(e) from e

    def signatures(self) -> Signatures:
        """See ``Transport``."""
        request = _metadata_request(self._target)
        try:
            response = self._stub.GetModelMetadata(
                request, self._target.timeout_seconds, metadata=_metadata(self._target)
            )
        except grpc.RpcError as e:
            raise _error(e) from e
        return _signatures(response)

    def call(self, method: ServerMethod, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``Transport``."""
        call = _method_call(self._channel, method)
        request = _method_request(self._target, fields)
        try:
            answer = call(
                request, timeout=self._target.timeout_seconds, metadata=_metadata(self._target)
            )
        except grpc.RpcError as e:
            raise _error(e) from e
        return json_format.MessageToDict(answer)

    def close(self) -> None:
        """See ``Transport``."""
        self._channel.close()


class AsyncGrpcTransport:
    """Asynchronous transport over TF Serving's PredictionService; create it on its event loop."""

    def __init__(self, target: Target):
        address, credentials = _address(target)
        self._channel = (
            grpc.aio.secure_channel(address, credentials, _OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(address, _OPTIONS)
        )
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._target = target

    async def predict(self, signature: str, inputs: Inputs) -> Outputs:
        """See ``AsyncTransport``."""
        request = _predict_request(self._target, signature, inputs)
        try:
            return _outputs(
                await self._stub.Predict(
                    request,
                    timeout=self._target.timeout_seconds,
                    metadata=_metadata(self._target),
                )
            )
        except grpc.RpcError as e:
            raise _error(e) from e

    async def signatures(self) -> Signatures:
        """See ``AsyncTransport``."""
        request = _metadata_request(self._target)
        try:
            response = await self._stub.GetModelMetadata(
                request,
                timeout=self._target.timeout_seconds,
                metadata=_metadata(self._target),
            )
        except grpc.RpcError as e:
            raise _error(e) from e
        return _signatures(response)

    async def call(self, method: ServerMethod, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``AsyncTransport``."""
        call = _method_call(self._channel, method)
        request = _method_request(self._target, fields)
        try:
            answer = await call(
                request, timeout=self._target.timeout_seconds, metadata=_metadata(self._target)
            )
        except grpc.RpcError as e:
            raise _error(e) from e
        return json_format.MessageToDict(answer)

    async def close(self) -> None:
        """See ``AsyncTransport``."""
        await self._channel.close()


def _address(target: Target) -> tuple[str, grpc.ChannelCredentials | None]:
    address = target.url.split("://", 1)[1].rstrip("/")
    if not target.url.startswith(_SECURE_SCHEME):
        return address, None
    ca = Path(target.ca_certificate).read_bytes() if target.ca_certificate else None
    return address, grpc.ssl_channel_credentials(ca)


def _metadata(target: Target) -> tuple[tuple[str, str], ...]:
    return tuple(target.headers().items())


def _fill_spec(spec: Any, target: Target) -> None:
    spec.name = target.model
    if target.version is not None:
        spec.version.value = target.version
    elif target.label:
        spec.version_label = target.label


def _predict_request(target: Target, signature: str, inputs: Inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    _fill_spec(request.model_spec, target)
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def _metadata_request(target: Target) -> get_model_metadata_pb2.GetModelMetadataRequest:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    _fill_spec(request.model_spec, target)
    return request


def _method_call(channel: Any, method: ServerMethod) -> Any:
    return channel.unary_unary(
        f"/{method.service}/{method.name}",
        request_serializer=struct_pb2.Struct.SerializeToString,
        response_deserializer=struct_pb2.Struct.FromString,
    )


def _method_request(target: Target, fields: Mapping[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict({**fields, MODEL: target.model}, struct_pb2.Struct())


def _outputs(response: predict_pb2.PredictResponse) -> Outputs:
    outputs = {}
    for name, proto in response.outputs.items():
        array = tf.make_ndarray(proto)
        if array.dtype == object:
            texts = np.empty(array.size, object)
            texts[:] = [value.decode("utf-8", "replace") for value in array.ravel()]
            array = texts.reshape(array.shape)
        outputs[name] = array
    return outputs


def _signatures(response: get_model_metadata_pb2.GetModelMetadataResponse) -> Signatures:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        name: SignatureNames(frozenset(definition.inputs), frozenset(definition.outputs))
        for name, definition in signatures.signature_def.items()
    }


def _error(error: grpc.RpcError) -> ClientError:
    return ClientError(error.code().name, error.details() or "")
