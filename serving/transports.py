"""The client's REST transports, synchronous and asynchronous.

The gRPC transports are in ``serving.grpc_transports``, because their stubs import TensorFlow, which
takes seconds that a REST client should not have to wait.
"""

import dataclasses
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np

from contract.server_methods import ServerMethod
from serving.config import DEFAULT_CALLER_KEY_HEADER
from serving.token_file import AUTHORIZATION, TokenFileError, authorization, read_tokens

Inputs = Mapping[str, Any]
Outputs = dict[str, np.ndarray]

# Maps HTTP statuses back to canonical codes, as far as TF Serving's mapping allows.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ClientError(Exception):
    """A request that the server refused, or that never reached the server.

    Attributes:
      code: Canonical status name, such as ``NOT_FOUND``.
      message: The server's message.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class Target:
    """The server and model that requests go to, and what is sent with them.

    Attributes:
      url: ``http://``, ``https://``, ``grpc://`` or ``grpcs://`` host:port.
      model: Model name.
      version: Version number; None leaves the choice to the server.
      label: Version label, instead of ``version``.
      timeout_seconds: Longest time that a request may take.
      ca_certificate: PEM file of trusted certificate authorities; empty uses those of the system.
      caller_key: Key by which the server splits callers between the stable version and a canary, so
        that one version answers all requests of a caller. Empty sends none.
      token: Bearer token that is sent with every request. Empty sends none.
      token_file: File whose first token is sent, instead of ``token``. It is read for every
        request, so that the token can be replaced.
    """

    url: str
    model: str
    version: int | None = None
    label: str = ""
    timeout_seconds: float = 10.0
    ca_certificate: str = ""
    caller_key: str = ""
    token: str = dataclasses.field(default="", repr=False)
    token_file: str = ""

    def headers(self) -> dict[str, str]:
        """Returns the HTTP headers or gRPC metadata of the next request.

        Raises:
          ClientError: UNAUTHENTICATED; the token file cannot be used.
        """
        token = self.token
        if self.token_file:
            try:
                token = read_tokens(Path(self.token_file))[0]
            except (OSError, TokenFileError) as e:
                raise ClientError("UNAUTHENTICATED", f"no token to send: {e}") from e
        headers = {DEFAULT_CALLER_KEY_HEADER: self.caller_key} if self.caller_key else {}
        # In lower case, as gRPC requires.
        return headers | ({AUTHORIZATION.lower(): authorization(token)} if token else {})


@dataclasses.dataclass(frozen=True)
class SignatureNames:
    """Names of a signature's inputs and outputs."""

    inputs: frozenset[str]
    outputs: frozenset[str]


Signatures = dict[str, SignatureNames]


class Transport(Protocol):
    """Sends requests and waits for the answers."""

    def predict(self, signature: str, inputs: Inputs) -> Outputs:
        """Runs a signature; string outputs are ``object`` arrays of ``str``."""

    def signatures(self) -> Signatures:
        """Returns the model's signatures."""

    def call(self, method: ServerMethod, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Calls a method that TF Serving does not have.

        Args:
          method: The method.
          fields: The fields of the request.

        Returns:
          The fields of the answer.
        """

    def close(self) -> None:
        """Closes connections."""


class AsyncTransport(Protocol):
    """Like ``Transport``, with coroutines."""

    async def predict(self, signature: str, inputs: Inputs) -> Outputs:
        """Runs a signature; string outputs are ``object`` arrays of ``str``."""

    async def signatures(self) -> Signatures:
        """Returns the model's signatures."""

    async def call(self, method: ServerMethod, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``Transport``."""

    async def close(self) -> None:
        """Closes connections."""


class RestTransport:
    """Transport over TF Serving's REST API."""

    def __init__(self, target: Target):
        self._target = target
        self._path = _model_path(target)
        self._http = httpx.Client(**_http_options(target))

    def predict(self, signature: str, inputs: Inputs) -> Outputs:
        """See ``Transport``."""
        body = _request_body(signature, inputs)
        outputs = self._send("POST", f"{self._path}:predict", body)["outputs"]
        if not isinstance(outputs, dict):
            outputs = _named(signature, outputs, self.signatures())
        return _to_arrays(outputs)

    def signatures(self) -> Signatures:
        """See ``Transport``."""
        return _signatures(self._send("GET", f"{self._path}/metadata", None))

    def call(self, method: ServerMethod, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``Transport``."""
        return self._send(*_method_request(self._target, method, fields))

    def close(self) -> None:
        """See ``Transport``."""
        self._http.close()

    def _send(self, method: str, path: str, body: Any) -> Any:
        try:
            headers = self._target.headers()
            return _checked(self._http.request(method, path, json=body, headers=headers))
        except httpx.HTTPError as e:
            raise _unreachable(e) from e


class AsyncRestTransport:
    """Asynchronous transport over TF Serving's REST API."""

    def __init__(self, target: Target):
        self._target = target
        self._path = _model_path(target)
        self._http = httpx.AsyncClient(**_http_options(target))

    async def predict(self, signature: str, inputs: Inputs) -> Outputs:
        """See ``AsyncTransport``."""
        body = _request_body(signature, inputs)
        outputs = (await self._send("POST", f"{self._path}:predict", body))["outputs"]
        if not isinstance(outputs, dict):
            outputs = _named(signature, outputs, await self.signatures())
        return _to_arrays(outputs)

    async def signatures(self) -> Signatures:
        """See ``AsyncTransport``."""
        return _signatures(await self._send("GET", f"{self._path}/metadata", None))

    async def call(self, method: ServerMethod, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """See ``AsyncTransport``."""
        return await self._send(*_method_request(self._target, method, fields))

    async def close(self) -> None:
        """See ``AsyncTransport``."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, body: Any) -> Any:
        try:
            headers = self._target.headers()
            return _checked(await self._http.request(method, path, json=body, headers=headers))
        except httpx.HTTPError as e:
            raise _unreachable(e) from e


def _http_options(target: Target) -> dict[str, Any]:
    return {
        "base_url": target.url,
        "timeout": target.timeout_seconds,
        "verify": target.ca_certificate or True,
    }


def _model_path(target: Target) -> str:
    path = f"/v1/models/{urllib.parse.quote(target.model, safe='')}"
    if target.version is not None:
        path += f"/versions/{target.version}"
    elif target.label:
        path += f"/labels/{urllib.parse.quote(target.label, safe='')}"
    return path


def _method_request(
    target: Target, method: ServerMethod, fields: Mapping[str, Any]
) -> tuple[str, str, Mapping[str, Any] | None]:
    path = method.path.format(name=urllib.parse.quote(target.model, safe=""))
    return ("POST", path, fields) if method.has_body else ("GET", path, None)


def _request_body(signature: str, inputs: Inputs) -> dict[str, Any]:
    # Columns are sent, not rows: they can contain inputs without a batch dimension.
    return {
        "signature_name": signature,
        "inputs": {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in inputs.items()
        },
    }


def _checked(response: httpx.Response) -> Any:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success and isinstance(body, dict):
        return body
    message = body.get("error") if isinstance(body, dict) else None
    raise ClientError(
        _CODES.get(response.status_code, "UNKNOWN"),
        message or f"HTTP {response.status_code} from {response.url}, not TF Serving's API",
    )


def _named(signature: str, value: Any, signatures: Signatures) -> dict[str, Any]:
    """Adds the name of a single output, which TF Serving leaves out."""
    (name,) = signatures[signature].outputs
    return {name: value}


def _to_arrays(outputs: Mapping[str, Any]) -> Outputs:
    arrays = {name: np.array(value) for name, value in outputs.items()}
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items()}


def _signatures(body: Any) -> Signatures:
    return {
        name: SignatureNames(
            frozenset(definition.get("inputs", {})), frozenset(definition.get("outputs", {}))
        )
        for name, definition in body["metadata"]["signature_def"]["signature_def"].items()
    }


def _unreachable(error: httpx.HTTPError) -> ClientError:
    code = "DEADLINE_EXCEEDED" if isinstance(error, httpx.TimeoutException) else "UNAVAILABLE"
    try:
        where = str(error.request.url)
    except RuntimeError:
        where = "the server"
    return ClientError(code, f"no answer from {where} ({error or type(error).__name__})")
