"""Describes the signatures of a model version, for both APIs."""

from tensorflow_serving.apis import get_model_metadata_pb2

from serving.errors import invalid_argument, quoted
from serving.model_manager import ModelManager

SIGNATURE_DEF = "signature_def"


def model_metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Returns the signatures of a version.

    Raises:
      ServingError: a metadata field other than ``signature_def``, or an unknown version.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {quoted(field)} is not supported")
    servable = manager.get(request.model_spec)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.model.signature_defs.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response
