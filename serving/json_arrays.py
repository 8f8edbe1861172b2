"""JSON values of TF Serving's REST API, to and from NumPy arrays.

The rules for what a value may be, and the words of the errors, are those of the
server's own ``util/json_tensor.cc``.
"""

import base64
import binascii
import json
import math
from typing import Any, NoReturn

import grpc
import numpy as np
import orjson
import tensorflow as tf

from serving.errors import ServingError, invalid_argument, quoted

_MAX_SHOWN = 200  # characters of a client's own value repeated in an error

_TYPE_NAMES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def to_array(value: Any, dtype: tf.DType) -> np.ndarray:
    """Decodes nested JSON lists into a dense array of the input's type.

    Raises:
      ServingError: INVALID_ARGUMENT for ragged lists or a value of another type,
        UNIMPLEMENTED for a type that JSON cannot carry.
    """
    shape = shape_of(value)
    leaves = _flatten(value, shape)
    convert = _CONVERTERS.get(dtype)
    if convert is None:
        first = leaves[0] if leaves else []
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {show(first)} to type: {_dtype_name(dtype)} is not"
            " supported; send it over gRPC",
        )
    flat = np.empty(len(leaves), dtype.as_numpy_dtype)
    if leaves:
        flat[:] = convert(leaves, dtype)
    return flat.reshape(shape)


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of nested lists, if their first elements speak for all."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _flatten(value: Any, shape: tuple[int, ...]) -> list[Any]:
    """Leaves of ``value`` in row-major order; refuses ragged nesting."""
    leaves = [value]
    for level, size in enumerate(shape):
        below: list[Any] = []
        for node in leaves:
            if not isinstance(node, list):
                raise invalid_argument(
                    f"JSON Value: {show(node)} found at incorrect level: {level + 1} in the JSON"
                    f" DOM. Expected at level: {len(shape)}"
                )
            if len(node) != size:
                raise invalid_argument(
                    f"Encountered list at unexpected size: {len(node)} at level: {level} expected"
                    f" size: {size}"
                )
            below.extend(node)
        leaves = below
    for leaf in leaves:
        if isinstance(leaf, list):
            raise invalid_argument(
                f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"
            )
    return leaves


def _strings(leaves: list[Any], dtype: tf.DType) -> list[bytes]:
    result = []
    for leaf in leaves:
        if isinstance(leaf, str):
            # Lone surrogates are valid JSON and no valid UTF-8.
            result.append(leaf.encode("utf-8", "surrogatepass"))
        elif isinstance(leaf, dict):
            result.append(_decode_base64(leaf))
        else:
            _type_error(leaf, dtype)
    return result


def _decode_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid_argument(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        # Missing padding is accepted, as by TF Serving.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as e:
        raise invalid_argument("Unable to base64 decode") from e


def _integers(leaves: list[Any], dtype: tf.DType) -> list[int]:
    low, high = _RANGES[dtype]
    for leaf in leaves:
        if type(leaf) is not int or not low <= leaf <= high:
            _type_error(leaf, dtype)
    return leaves


def _booleans(leaves: list[Any], dtype: tf.DType) -> list[bool]:
    for leaf in leaves:
        if type(leaf) is not bool:
            _type_error(leaf, dtype)
    return leaves


def _floats(leaves: list[Any], dtype: tf.DType) -> list[float]:
    info = np.finfo(dtype.as_numpy_dtype)
    largest_integer = 2 ** (info.nmant + 1) - 1
    for leaf in leaves:
        if type(leaf) is int:
            lossless = abs(leaf) <= largest_integer
        elif type(leaf) is float:
            # JSON's shortest form of the largest float is a little larger than it.
            with np.errstate(over="ignore"):
                lossless = np.isfinite(dtype.as_numpy_dtype(leaf)) or not np.isfinite(leaf)
        else:
            _type_error(leaf, dtype)
        if not lossless:
            raise invalid_argument(
                f"Cannot convert JSON value: {show(leaf)} to {_dtype_name(dtype)} without loss"
                " of precision."
            )
    return leaves


_INTEGER_TYPES = (
    *(tf.int8, tf.int16, tf.int32, tf.int64),
    *(tf.uint8, tf.uint16, tf.uint32, tf.uint64),
)
_RANGES = {dtype: (dtype.min, dtype.max) for dtype in _INTEGER_TYPES}
_CONVERTERS = {
    tf.string: _strings,
    tf.bool: _booleans,
    tf.float32: _floats,
    tf.float64: _floats,
    **dict.fromkeys(_INTEGER_TYPES, _integers),
}


def to_json(name: str, value: np.ndarray) -> Any:
    """Prepares an output for ``write``: texts as nested lists, numbers as they are.

    Args:
      name: The output's name; the strings of ``*_bytes`` become base64 objects.
      value: Numbers, booleans, or ``object`` of bytes.

    Raises:
      ServingError: INVALID_ARGUMENT for a type that JSON cannot carry.
    """
    if value.dtype == object:
        leaves: list[Any] = value.ravel().tolist()
        if name.endswith("_bytes"):
            leaves = [{"b64": base64.b64encode(leaf).decode()} for leaf in leaves]
        else:
            leaves = [leaf.decode("utf-8", "replace") for leaf in leaves]
        return _nested(leaves, value.shape)
    if value.dtype.kind in "biuf":
        return np.ascontiguousarray(value).reshape(value.shape)
    raise invalid_argument(
        f"Failed to write JSON value for tensor type: {_dtype_name(tf.as_dtype(value.dtype))}"
    )


def _nested(leaves: list[Any], shape: tuple[int, ...]) -> Any:
    """Nested lists of ``shape`` that hold ``leaves`` in row-major order."""
    if not shape:
        return leaves[0]
    for size in reversed(shape[1:]):
        count = len(leaves) // size if size else math.prod(shape[:-1])
        leaves = [leaves[i * size : (i + 1) * size] for i in range(count)]
    return leaves


def write(document: Any, *, is_finite: bool = True) -> bytes:
    """Writes a JSON document whose values may be arrays and scalars of NumPy.

    A float is written with the fewest digits from which the same value of its type is read
    back; NaN and infinity as ``NaN`` and ``Infinity``, which is what TF Serving does.

    Args:
      document: What is written; its texts are valid Unicode.
      is_finite: False if a number in it may be NaN or infinite.
    """
    if is_finite:
        return orjson.dumps(document, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes them as null, as the standard of JSON has it.
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode()


def _plain(value: np.ndarray | np.generic) -> Any:
    if value.dtype == np.float32:
        # Through text: the digits of the float32, not those of the double nearest to it.
        return value.astype(str).astype(np.float64).tolist()
    return value.tolist()


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def is_plain_object(value: Any) -> bool:
    """Whether a JSON value is an object that does not stand for base64 data."""
    return isinstance(value, dict) and not _is_base64(value)


def _type_error(value: Any, dtype: tf.DType) -> NoReturn:
    kind = str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]
    raise invalid_argument(
        f"JSON Value: {show(value)} Type: {kind} is not of expected type: {_dtype_name(dtype)}"
    )


def _dtype_name(dtype: tf.DType) -> str:
    """The C++ runtime's name of a type (``DataTypeString``)."""
    return {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


def show(value: Any) -> str:
    """Returns a client's own value for an error message, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=True)
    return quoted(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def show_shape(shape: tuple[int, ...]) -> str:
    """Returns a shape as the C++ runtime writes it, such as ``[2,3]``."""
    return f"[{','.join(map(str, shape))}]"
