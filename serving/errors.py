"""Errors of the serving API: one exception, a gRPC code, and its HTTP status."""

import re
from pathlib import Path

import grpc
import tensorflow as tf

# TF Serving's mapping of canonical codes to HTTP (model_servers/http_server.cc).
_HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
RETRY_AFTER_SECONDS = 1  # how long to wait after UNAVAILABLE, as told to clients
# Codes of operations that cannot work; deadlines, lack of memory and the like are not faults.
_SERVER_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DATA_LOSS,
}
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}

# Markers around values of a request inside a message.
_QUOTE, _UNQUOTE = "\x02", "\x03"
_QUOTED = re.compile(f"{_QUOTE}.*?{_UNQUOTE}", re.DOTALL)


def quoted(value: str) -> str:
    """Marks a value or name that came from a request, for a ``ServingError``'s message."""
    return f"{_QUOTE}{_without_marks(value)}{_UNQUOTE}"


def _without_marks(text: str) -> str:
    return text.replace(_QUOTE, "").replace(_UNQUOTE, "")


class ServingError(Exception):
    """A request or a load that failed, explained in terms that a client understands.

    Values of a request, marked by ``quoted``, are shown to the client but not logged:
    histories and profiles must not reach a log.

    Attributes:
      code: Canonical status code, the same as TF Serving would return.
      message: What is wrong, and what was expected.
      public_message: ``message`` without values of the request.
    """

    def __init__(self, code: grpc.StatusCode, message: str, public_message: str | None = None):
        self.code = code
        self.message = _without_marks(message)
        self.public_message = _QUOTED.sub("...", public_message or message)
        super().__init__(self.message)

    @property
    def http_status(self) -> int:
        """HTTP status that TF Serving's REST API answers for ``code``."""
        return _HTTP_STATUS[self.code]


def invalid_argument(message: str) -> ServingError:
    """Returns the error for a request that can never succeed as it is written."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def unavailable(message: str) -> ServingError:
    """Returns the error for a request that may succeed later, or at another server."""
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def not_found(message: str) -> ServingError:
    """Returns the error for a model, version or path that does not exist."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def internal(error: Exception) -> ServingError:
    """Returns the error for a server fault; ``error`` may contain values of the request."""
    kind = type(error).__name__
    return ServingError(grpc.StatusCode.INTERNAL, f"{kind}: {error}", public_message=kind)


def load_error(path: Path, error: Exception) -> ServingError:
    """Returns the error for a version at ``path`` that could not be loaded."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, OSError):
        return ServingError(
            grpc.StatusCode.UNAVAILABLE,
            f"{error.filename or path} cannot be read ({error.strerror or error});"
            " check the file system and the permissions",
        )
    return ServingError(
        grpc.StatusCode.INTERNAL, f"{path} cannot be loaded ({type(error).__name__}: {error})"
    )


def from_tensorflow(error: tf.errors.OpError, shape_problem: str = "") -> ServingError:
    """Converts an error of TensorFlow's runtime into one for the client.

    Args:
      error: What TensorFlow raised.
      shape_problem: How the shapes of the request differ from those of the signature. If they do
        differ, the server is not at fault when an operation fails on them.

    The runtime's text contains the graph node and a Python stack trace of the program that built
    the model; only its first part is meaningful to the sender of the request.
    """
    text = error.message.removeprefix("Graph execution error:").strip()
    for trailer in ("\n\t [[", "\n\n", "\nDetected at node", "Original stack trace"):
        text = text.split(trailer, 1)[0]
    text = text.strip() or type(error).__name__
    code = _GRPC_CODES[error.error_code]
    hint = f" ({shape_problem})" if shape_problem else ""
    if shape_problem and code in _SERVER_FAULTS:
        code = grpc.StatusCode.INVALID_ARGUMENT
    return ServingError(
        code,
        text + hint,
        # The text may contain values of the request.
        public_message=f"refused by the model ({type(error).__name__}){hint}",
    )
