"""Conversion of JSON values of TF Serving's REST API to and from NumPy arrays.

The rules for valid values, and the error texts, are those of the server's own
``util/json_tensor.cc``.
"""

import base64
import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import orjson
import tensorflow as tf

from serving.errors import ServingError, invalid_argument
from serving.json_document import RepeatedKeys, show
from serving.signature import dtype_name

_MAX_RANK = 32  # NumPy's limit
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")

_TYPE_NAMES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    RepeatedKeys: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def to_array(value: Any, dtype: tf.DType) -> np.ndarray:
    """Decodes nested JSON lists into a dense array of the input's type.

    Raises:
      ServingError: INVALID_ARGUMENT for ragged lists or a value of another type, UNIMPLEMENTED for
        a type that JSON cannot represent.
    """
    shape = shape_of(value)
    if len(shape) > _MAX_RANK:
        raise invalid_argument(f"Lists nested {len(shape)} deep; the limit is {_MAX_RANK}")
    convert = _CONVERTERS.get(dtype)
    leaves = _flatten(value, shape)
    if leaves == []:
        return np.empty(shape, dtype.as_numpy_dtype)
    converted = convert(leaves, dtype) if leaves is not None and convert is not None else None
    if leaves is not None and converted is not None:
        flat = np.empty(len(leaves), dtype.as_numpy_dtype)
        flat[:] = converted
        return flat.reshape(shape)
    _check(value, 0, shape, dtype)
    raise AssertionError("a value that cannot be converted has no fault")


def shape_of(value: Any) -> tuple[int, ...]:
    """Returns the shape of nested lists, judged by the first element at each level."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _flatten(value: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """Returns the leaves of ``value`` in row-major order; None if its nesting is ragged."""
    leaves = [value]
    for size in shape:
        if any(type(node) is not list or len(node) != size for node in leaves):
            return None
        leaves = list(itertools.chain.from_iterable(leaves))
    return None if list in set(map(type, leaves)) else leaves


def _check(value: Any, level: int, shape: tuple[int, ...], dtype: tf.DType) -> None:
    """Raises for the first fault of a value, in the order in which TF Serving reads it.

    Used only for values that could not be converted, because it visits elements one by one.
    """
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid_argument(
                f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON"
                f" DOM. Expected at level: {rank}"
            )
        _check_leaf(value, dtype)
        return
    if level >= rank:
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected"
            f" size: {shape[level]}"
        )
    for item in value:
        _check(item, level + 1, shape, dtype)


def _check_leaf(value: Any, dtype: tf.DType) -> None:
    if isinstance(value, dict) and dtype == tf.string:
        _decode_base64(value)
        return
    convert = _CONVERTERS.get(dtype)
    if convert is None and not isinstance(value, dict):
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {show(value)} to type: {dtype_name(dtype)}",
        )
    if convert is None or convert([value], dtype) is None:
        kind = str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]
        raise invalid_argument(
            f"JSON Value: {show(value)} Type: {kind} is not of expected type: {dtype_name(dtype)}"
        )


# Each converter takes the leaves of a value and returns them in the type of an input, or None if
# one of them does not fit.


def _strings(leaves: list[Any], dtype: tf.DType) -> list[bytes] | None:
    result = []
    for leaf in leaves:
        if isinstance(leaf, str):
            # Bytes that are not UTF-8 pass through unchanged.
            result.append(leaf.encode("utf-8", "surrogateescape"))
        elif isinstance(leaf, dict) and _is_base64(leaf):
            result.append(_decode_base64(leaf))
        else:
            return None
    return result


def _decode_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid_argument(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    # The rules of absl::Base64Unescape: white space is allowed anywhere, and the padding is either
    # complete or missing.
    match = _BASE64.fullmatch("".join(value["b64"].split()))
    missing = -len(match[1]) % 4 if match else 0
    if match is None or missing == 3 or len(match[2]) not in (0, missing):
        raise invalid_argument("Unable to base64 decode")
    return base64.b64decode(match[1] + "=" * missing)


def _integers(leaves: list[Any], dtype: tf.DType) -> list[int] | None:
    if set(map(type, leaves)) != {int} or not dtype.min <= min(leaves) <= max(leaves) <= dtype.max:
        return None
    return leaves


def _booleans(leaves: list[Any], dtype: tf.DType) -> list[bool] | None:
    return leaves if set(map(type, leaves)) == {bool} else None


def _floats(leaves: list[Any], dtype: tf.DType) -> np.ndarray | None:
    if not set(map(type, leaves)) <= {int, float}:
        return None
    # A value that a float cannot hold becomes the nearest one, or infinity.
    with np.errstate(over="ignore"):
        return np.array(leaves, np.float64).astype(dtype.as_numpy_dtype)


_CONVERTERS: dict[tf.DType, Callable[[list[Any], tf.DType], Any]] = {
    tf.string: _strings,
    tf.bool: _booleans,
    tf.float32: _floats,
    tf.float64: _floats,
    **dict.fromkeys(
        (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64), _integers
    ),
}
# Types of outputs other than strings; JSON can represent the same types in both directions.
_WRITTEN = {np.dtype(dtype.as_numpy_dtype) for dtype in _CONVERTERS if dtype != tf.string}


def to_json(name: str, value: np.ndarray) -> Any:
    """Prepares an output for ``write``: texts as nested lists, numbers unchanged.

    Args:
      name: The output's name; strings of outputs named ``*_bytes`` become base64 objects.
      value: Numbers, booleans, or an ``object`` array of bytes.

    Raises:
      ServingError: INVALID_ARGUMENT for a type that JSON cannot represent.
    """
    if value.dtype == object:
        leaves: list[Any] = value.ravel().tolist()
        if name.endswith("_bytes"):
            leaves = [{"b64": base64.b64encode(leaf).decode()} for leaf in leaves]
        else:
            leaves = [leaf.decode("utf-8", "replace") for leaf in leaves]
        return _nested(leaves, value.shape)
    if value.dtype in _WRITTEN:
        return np.ascontiguousarray(value).reshape(value.shape)
    raise invalid_argument(
        f"Failed to write JSON value for tensor type: {dtype_name(tf.as_dtype(value.dtype))}"
    )


def _nested(leaves: list[Any], shape: tuple[int, ...]) -> Any:
    """Returns nested lists of ``shape`` that hold ``leaves`` in row-major order."""
    if not shape:
        return leaves[0]
    for size in reversed(shape[1:]):
        count = len(leaves) // size if size else math.prod(shape[:-1])
        leaves = [leaves[i * size : (i + 1) * size] for i in range(count)]
    return leaves


def write(document: Any, *, is_finite: bool = True) -> bytes:
    """Writes a JSON document whose values may be NumPy arrays and scalars.

    A float is written with the fewest digits from which the same value of its type can be read
    back. NaN and infinity are written as ``NaN`` and ``Infinity``, as TF Serving does.

    Args:
      document: The document; its texts must be valid Unicode.
      is_finite: Whether all numbers in it are finite.
    """
    if is_finite:
        return orjson.dumps(document, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes such numbers as null, because the JSON standard does not have them.
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return text.encode()


def _plain(value: np.ndarray | np.generic) -> Any:
    if value.dtype == np.float32:
        # Converting by way of text gives the digits of the float32, not those of the nearest
        # double.
        return value.astype(str).astype(np.float64).tolist()
    return value.tolist()


def _is_base64(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) == 1
        and isinstance(value.get("b64"), str)
        and not isinstance(value, RepeatedKeys)
    )


def is_plain_object(value: Any) -> bool:
    """Whether a JSON value is an object that does not represent base64 data."""
    return isinstance(value, dict) and not _is_base64(value)


def show_shape(shape: tuple[int, ...]) -> str:
    """Formats a shape as the C++ runtime does, such as ``[2,3]``."""
    return f"[{','.join(map(str, shape))}]"
