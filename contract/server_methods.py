"""Methods of the server that TF Serving does not have: over REST, and over gRPC.

Messages are JSON objects. Over gRPC they are ``google.protobuf.Struct`` with the same fields and
``model``, the name of the model.
"""

import dataclasses
from typing import Final

# Fields of more than one message.
KEY: Final = "key"  # by which a request that is sent again is recognised
MODEL: Final = "model"  # over gRPC only

CATALOGUE_SERVICE: Final = "mind.serving.Catalogue"
HISTORIES_SERVICE: Final = "mind.serving.Histories"


@dataclasses.dataclass(frozen=True)
class ServerMethod:
    """A method.

    Attributes:
      operation: Its name in the logs and metrics of REST requests.
      path: Of REST, with ``{name}`` for the model.
      service: Full name of the gRPC service.
      name: Its name in the gRPC service.
      has_body: Whether a REST request has a message; it is a POST then, else a GET.
    """

    operation: str
    path: str
    service: str
    name: str
    has_body: bool = True


def _of_catalogue(operation: str, path: str, name: str, has_body: bool = True) -> ServerMethod:
    return ServerMethod(operation, f"/v1/models/{{name}}/{path}", CATALOGUE_SERVICE, name, has_body)


def _of_histories(path: str, name: str) -> ServerMethod:
    return ServerMethod(path, f"/v1/models/{{name}}/{path}", HISTORIES_SERVICE, name)


UPSERT_ITEMS: Final = _of_catalogue("items:upsert", "items:upsert", "Upsert")
REMOVE_ITEMS: Final = _of_catalogue("items:remove", "items:remove", "Remove")
CATALOGUE_STATUS: Final = _of_catalogue("items:status", "items", "Status", has_body=False)
ADD_EVENTS: Final = _of_histories("events", "AddEvents")
ERASE_USERS: Final = _of_histories("users:erase", "EraseUsers")

SERVER_METHODS: Final = (UPSERT_ITEMS, REMOVE_ITEMS, CATALOGUE_STATUS, ADD_EVENTS, ERASE_USERS)
