"""Descriptors of TF Serving's two services and of our own, for server reflection.

tensorflow-serving-api 2.16 brings its services as modules that protoc 3 has written
(``prediction_service_pb2``, ``model_service_pb2``). They cannot be imported with protobuf 4, so
what they would register is registered here. The messages' own modules can be.
"""

from collections.abc import Collection
from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool, struct_pb2
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

# Request and response by method.
_Methods = dict[str, tuple[type[Message], type[Message]]]

# Name of the file, and of the service with its package: those of TF Serving.
_SERVICES: tuple[tuple[str, str, _Methods], ...] = (
    (
        "tensorflow_serving/apis/prediction_service.proto",
        "tensorflow.serving.PredictionService",
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
        "tensorflow_serving/apis/model_service.proto",
        "tensorflow.serving.ModelService",
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


# The services by which the catalogue is changed and histories are kept; their messages have the
# fields of the JSON bodies.
CATALOGUE_SERVICE: Final = "mind.serving.Catalogue"
UPSERT_METHOD, REMOVE_METHOD, STATUS_METHOD = "Upsert", "Remove", "Status"
HISTORIES_SERVICE: Final = "mind.serving.Histories"
ADD_EVENTS_METHOD, ERASE_USERS_METHOD = "AddEvents", "EraseUsers"
_STRUCTS = (struct_pb2.Struct, struct_pb2.Struct)
_OF_SERVER: tuple[tuple[str, str, _Methods], ...] = (
    (
        "mind/serving/catalogue.proto",
        CATALOGUE_SERVICE,
        dict.fromkeys((UPSERT_METHOD, REMOVE_METHOD, STATUS_METHOD), _STRUCTS),
    ),
    (
        "mind/serving/histories.proto",
        HISTORIES_SERVICE,
        dict.fromkeys((ADD_EVENTS_METHOD, ERASE_USERS_METHOD), _STRUCTS),
    ),
)


def register(own: Collection[str] = ()) -> list[str]:
    """Makes the services known to protobuf's default pool.

    Args:
      own: Names of the server's own services that it has, beside those of TF Serving.

    Returns:
      Their full names.
    """
    services = [*_SERVICES, *(service for service in _OF_SERVER if service[1] in own)]
    for path, full_name, methods in services:
        package, name = full_name.rsplit(".", 1)
        file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3")
        messages = [message.DESCRIPTOR for pair in methods.values() for message in pair]
        file.dependency.extend(sorted({message.file.name for message in messages}))
        service = file.service.add(name=name)
        for method_name, (request, response) in methods.items():
            service.method.add(
                name=method_name,
                input_type=f".{request.DESCRIPTOR.full_name}",
                output_type=f".{response.DESCRIPTOR.full_name}",
            )
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return [full_name for _, full_name, _ in services]
