"""Descriptors of TF Serving's two services, for server reflection.

tensorflow-serving-api 2.16 brings its services as modules that protoc 3 has written
(``prediction_service_pb2``, ``model_service_pb2``). They cannot be imported with protobuf 4, so
what they would register is registered here. The messages' own modules can be.
"""

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

_PACKAGE = "tensorflow.serving"
_FOLDER = "tensorflow_serving/apis"

# Name of the file, name of the service, and request and response by method:
# tensorflow_serving/apis/prediction_service.proto and model_service.proto.
_Methods = dict[str, tuple[type[Message], type[Message]]]
_SERVICES: tuple[tuple[str, str, _Methods], ...] = (
    (
        "prediction_service.proto",
        "PredictionService",
        {
            "Classify": (
                classification_pb2.ClassificationRequest,
                classification_pb2.ClassificationResponse,
            ),
            "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
            "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
            "MultiInference": (
                inference_pb2.MultiInferenceRequest,
                inference_pb2.MultiInferenceResponse,
            ),
            "GetModelMetadata": (
                get_model_metadata_pb2.GetModelMetadataRequest,
                get_model_metadata_pb2.GetModelMetadataResponse,
            ),
        },
    ),
    (
        "model_service.proto",
        "ModelService",
        {
            "GetModelStatus": (
                get_model_status_pb2.GetModelStatusRequest,
                get_model_status_pb2.GetModelStatusResponse,
            ),
            "HandleReloadConfigRequest": (
                model_management_pb2.ReloadConfigRequest,
                model_management_pb2.ReloadConfigResponse,
            ),
        },
    ),
)


def register() -> list[str]:
    """Makes the services known to protobuf's default pool.

    Returns:
      Their full names.
    """
    pool = descriptor_pool.Default()
    for file_name, service_name, methods in _SERVICES:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{_FOLDER}/{file_name}", package=_PACKAGE, syntax="proto3"
        )
        messages = [message.DESCRIPTOR for pair in methods.values() for message in pair]
        file.dependency.extend(sorted({message.file.name for message in messages}))
        service = file.service.add(name=service_name)
        for method_name, (request, response) in methods.items():
            service.method.add(
                name=method_name,
                input_type=f".{request.DESCRIPTOR.full_name}",
                output_type=f".{response.DESCRIPTOR.full_name}",
            )
        pool.AddSerializedFile(file.SerializeToString())
    return [f"{_PACKAGE}.{service_name}" for _, service_name, _ in _SERVICES]
