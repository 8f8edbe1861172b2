"""What a row of the conformance table is.

A row says what TF Serving answers to a request, and which of its files demands that. Paths
are below ``tensorflow_serving/`` in github.com/tensorflow/serving, at commit 9d981c5c.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

MODEL = "zoo"
HALF_PLUS_TWO = "half_plus_two"
OLD_VERSION, VERSION = 122, 123
LABEL = "old"


@dataclasses.dataclass(frozen=True)
class Rest:
    """A REST request.

    Attributes:
      method: HTTP method.
      path: As it is sent.
      body: Bytes, or a value that is sent as JSON.
      headers: Beside the usual ones.
      to_cors: Send it to the server that was started with CORS support.
    """

    method: str
    path: str
    body: Any = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    to_cors: bool = False

    def content(self) -> bytes:
        """The body as it is sent."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclasses.dataclass(frozen=True)
class Grpc:
    """A gRPC request.

    Attributes:
      method: Name of the method.
      request: The message, in text format; ``{zoo}``, ``{half_plus_two}`` and
        ``{half_plus_two to N}`` stand for the model's configuration, the last one with the
        label on version N.
    """

    method: str
    request: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What must be answered.

    Attributes:
      code: HTTP status, or the name of a gRPC code.
      body: The JSON body, numbers as they are written (1 is not 1.0), or the gRPC message in
        text format. None if it is not compared.
      error: The error text, in full.
      has: A part of the error text or the body, where TF Serving's own test looks for no
        more, or where the rest is another library's.
      headers: Response headers; None for one that must not be there.
    """

    code: int | str
    body: Any = None
    error: str | None = None
    has: str | tuple[str, ...] = ()
    headers: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
      name: What is shown.
      source: File of TF Serving, and the test or function in it.
      request: What is sent.
      answer: What must come back.
      differs: Why this server answers otherwise than TF Serving, on purpose; ``answer``
        is then this server's. docs/server.md lists each of them. Empty if it does not.
    """

    name: str
    source: str
    request: Rest | Grpc
    answer: Answer
    differs: str = ""


def predict(body: Any, signature: str = "", model: str = MODEL) -> Rest:
    """A ``:predict`` request; ``signature`` is added to a body that is no bytes."""
    if signature:
        body = {"signature_name": signature, **body}
    return Rest("POST", f"/v1/models/{model}:predict", body)


def column(value: Any, signature: str = "") -> Rest:
    """A ``:predict`` request of one input in column format."""
    return predict({"inputs": value}, signature)


def rows(value: Any, signature: str = "") -> Rest:
    """A ``:predict`` request in row format."""
    return predict({"instances": value}, signature)


def outputs(value: Any) -> Answer:
    """An answer in column format."""
    return Answer(200, {"outputs": value})


def predictions(value: Any) -> Answer:
    """An answer in row format."""
    return Answer(200, {"predictions": value})


def refused(error: str) -> Answer:
    """HTTP 400 with an error text, in full."""
    return Answer(400, error=error)


def refused_with(*has: str) -> Answer:
    """HTTP 400 with these in the error text."""
    return Answer(400, has=has)


def tensor(signature: str, proto: str, name: str = "x") -> Grpc:
    """A gRPC Predict of one input, of which ``proto`` is the TensorProto in text format."""
    return Grpc(
        "Predict",
        f'model_spec {{ name: "{MODEL}" signature_name: "{signature}" }}'
        f' inputs {{ key: "{name}" value {{ {proto} }} }}',
    )
