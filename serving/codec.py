"""TF Serving's JSON request and response formats, to and from NumPy arrays.

Follows https://www.tensorflow.org/tfx/serving/api_rest and, for what that page
leaves open (error texts, lossless number conversion, defaults), the server's own
``util/json_tensor.cc``.

One thing is added: an input that the SignatureDef gives a default for may be
left out. Stock TF Serving allows that over gRPC only.
"""

import base64
import binascii
import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import grpc
import numpy as np
import tensorflow as tf

from serving.errors import ServingError, invalid_argument, quoted
from serving.limits import Limits
from serving.signature import DEFAULT_SIGNATURE, Signature

_MAX_SHOWN = 200  # characters of a client's own value repeated in an error

# Words of RapidJSON, TF Serving's parser, for what Python's parser reports.
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": ("Missing a name for object member."),
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or ] or } after an element.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}
_TYPE_NAMES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """A decoded ``:predict`` body.

    Attributes:
      signature_name: Signature to run.
      inputs: Arrays by input name; strings are ``object`` arrays of bytes.
      row_format: The body used ``instances``, so the answer uses ``predictions``.
    """

    signature_name: str
    inputs: dict[str, np.ndarray]
    row_format: bool


def parse_predict_request(
    body: bytes, signatures: Mapping[str, Signature], limits: Limits
) -> PredictRequest:
    """Decodes the body of a ``:predict`` request.

    Args:
      body: UTF-8 JSON.
      signatures: The model's signatures; they give each input's type.
      limits: Sizes up to which inputs are decoded.

    Raises:
      ServingError: INVALID_ARGUMENT, with TF Serving's wording where it refuses too.
    """
    document = _parse_object(body)
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {_show(document)} not formatted correctly. 'signature_name' key must be"
            " a string value."
        )
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
    signature = signatures[name]
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {name}")
    if "instances" in document and "inputs" in document:
        raise invalid_argument(
            f"JSON Value: {_show(document)} Not formatted correctly expecting only one of"
            " 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid_argument(
                f"JSON Value: {_show(document)} Excepting 'instances' to be an list/array"
            )
        if not rows:
            raise invalid_argument(f"JSON Value: {_show(document)} No values in 'instances' array")
        return PredictRequest(name, _from_rows(rows, signature, limits), row_format=True)
    if "inputs" in document:
        inputs = _from_columns(document["inputs"], signature, limits)
        return PredictRequest(name, inputs, row_format=False)
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def format_predict_response(outputs: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """Encodes the outputs of a signature as a ``:predict`` response body.

    A single output stands alone; several are keyed by name. Strings whose
    output is named ``*_bytes`` are base64 objects. Float32 values are written
    with the fewest digits that read back as the same float32.

    Raises:
      ServingError: the outputs differ in batch size (row format only), or have a
        type that JSON cannot carry.
    """
    if row_format:
        sizes = {}
        for name, value in outputs.items():
            if value.ndim == 0:
                raise invalid_argument(f"Tensor name: {name} has no shape information ")
            sizes[name] = value.shape[0]
            if value.shape[0] != next(iter(sizes.values())):
                raise invalid_argument(
                    f"Tensor name: {name} has inconsistent batch size: {value.shape[0]}"
                    f" expecting: {next(iter(sizes.values()))}"
                )
    columns = {name: _to_json(name, outputs[name]) for name in sorted(outputs)}
    payload: Any
    if not row_format:
        payload = columns if len(columns) > 1 else next(iter(columns.values()))
        return _dump({"outputs": payload})
    if len(columns) == 1:
        payload = next(iter(columns.values()))
    else:
        payload = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    return _dump({"predictions": payload})


def format_error(message: str) -> bytes:
    """Encodes an error body: ``{"error": message}``."""
    return _dump({"error": message})


def _dump(value: Any) -> bytes:
    # NaN and Infinity are written as such, which is what TF Serving does.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _parse_object(body: bytes) -> dict[str, Any]:
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8"))
    except json.JSONDecodeError as e:
        reason = _PARSE_ERRORS.get(e.msg, e.msg + ".")
        raise invalid_argument(f"JSON Parse error: {reason} at offset: {e.pos}") from e
    except UnicodeDecodeError as e:
        raise invalid_argument(
            f"JSON Parse error: Invalid encoding in string. at offset: {e.start}"
        ) from e
    except RecursionError as e:
        raise invalid_argument("JSON Parse error: The document is nested too deeply") from e
    except ValueError as e:  # an integer of thousands of digits
        raise invalid_argument("JSON Parse error: Number too big to be stored in double.") from e
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {_show(document)} Is not object")
    return document


def _from_rows(rows: list[Any], signature: Signature, limits: Limits) -> dict[str, np.ndarray]:
    infos = signature.inputs
    keyed = _is_plain_object(rows[0])
    # All rows must have the shapes of the first.
    first_row = rows[0] if keyed else {next(iter(infos)): rows[0]}
    limits.check_shapes((name, (len(rows), *_shape_of(value))) for name, value in first_row.items())
    if not keyed and len(infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    names = set(infos)
    required = names - set(signature.defaults)
    cells: dict[str, list[np.ndarray]] = {}
    for position, row in enumerate(rows):
        if keyed != _is_plain_object(row):
            expected, got = ("object", "list") if keyed else ("value/list", "object")
            raise invalid_argument(
                f"Expecting {expected} but got {got} at item {position} of input list"
            )
        values = row if keyed else {next(iter(infos)): row}
        for name, value in values.items():
            where = f"Failed to process element: {position} "
            if keyed:
                where += f"key: {name} "
            where += "of 'instances' list. Error: INVALID_ARGUMENT: "
            if name not in infos:
                raise invalid_argument(f"{where}JSON object: does not have named input: {name}")
            try:
                cell = _to_array(value, infos[name].dtype)
            except ServingError as e:
                raise ServingError(
                    e.code, where + e.message, public_message=where + e.public_message
                ) from e
            first = cells.setdefault(name, [])
            if first and cell.size != first[0].size:
                raise invalid_argument(
                    f"{where}Expecting tensor size: {first[0].size} but got: {cell.size}"
                )
            if first and cell.shape != first[0].shape:
                raise invalid_argument(
                    f"{where}Expecting shape {_show_shape(first[0].shape)} but got:"
                    f" {_show_shape(cell.shape)}"
                )
            first.append(cell)
        # An input left to its default must be left so in every row.
        if not required <= set(values) or any(len(c) != position + 1 for c in cells.values()):
            expected_names = names if not signature.defaults else required | set(cells)
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object:"
                f" {_show(row)} keys must be equal to: {','.join(sorted(expected_names))}"
            )
    return {name: np.stack(values) for name, values in cells.items()}


def _from_columns(value: Any, signature: Signature, limits: Limits) -> dict[str, np.ndarray]:
    infos = signature.inputs
    columns = value if _is_plain_object(value) else {next(iter(infos)): value}
    limits.check_shapes((name, _shape_of(column)) for name, column in columns.items())
    if not _is_plain_object(value):
        if len(infos) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        name = next(iter(infos))
        return {name: _to_array(value, infos[name].dtype)}
    # TF Serving ignores names it does not know here; a misspelt optional input
    # would then be dropped in silence, so they are refused.
    unknown = set(value) - set(infos)
    if unknown:
        raise invalid_argument(
            f"JSON object: does not have named input: {','.join(sorted(unknown))}. Inputs of this"
            f" signature: {','.join(sorted(infos))}"
        )
    for name in sorted(set(infos) - set(signature.defaults)):
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    return {name: _to_array(item, infos[name].dtype) for name, item in value.items()}


def _to_array(value: Any, dtype: tf.DType) -> np.ndarray:
    """Decodes nested JSON lists into a dense array of the input's type."""
    shape = _shape_of(value)
    leaves = _flatten(value, shape)
    convert = _CONVERTERS.get(dtype)
    if convert is None:
        first = leaves[0] if leaves else []
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_show(first)} to type: {_dtype_name(dtype)} is not"
            " supported; send it over gRPC",
        )
    flat = np.empty(len(leaves), dtype.as_numpy_dtype)
    if leaves:
        flat[:] = convert(leaves, dtype)
    return flat.reshape(shape)


def _shape_of(value: Any) -> tuple[int, ...]:
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
                    f"JSON Value: {_show(node)} found at incorrect level: {level + 1} in the JSON"
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
        raise invalid_argument(
            f"JSON Value: {_show(value)} not formatted correctly for base64 data"
        )
    text = value["b64"]
    try:
        # Missing padding is accepted, as by TF Serving.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as e:
        raise invalid_argument("Unable to base64 decode") from e


def _integers(leaves: list[Any], dtype: tf.DType) -> list[int]:
    low, high = dtype.min, dtype.max
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
                f"Cannot convert JSON value: {_show(leaf)} to {_dtype_name(dtype)} without loss"
                " of precision."
            )
    return leaves


_CONVERTERS = {
    tf.string: _strings,
    tf.bool: _booleans,
    tf.float32: _floats,
    tf.float64: _floats,
    **dict.fromkeys(
        (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
        _integers,
    ),
}


def _to_json(name: str, value: np.ndarray) -> Any:
    if value.dtype == object:
        as_base64 = name.endswith("_bytes")
        flat: Iterable[Any] = (
            {"b64": base64.b64encode(item).decode()}
            if as_base64
            else item.decode("utf-8", "replace")
            for item in value.ravel()
        )
        boxed = np.empty(value.size, object)
        boxed[:] = list(flat)
        return boxed.reshape(value.shape).tolist()
    if value.dtype == np.float32:
        # Through text: the shortest digits of the float32, not those of the
        # double nearest to it (0.1, not 0.10000000149011612).
        return value.astype(str).astype(np.float64).tolist()
    if value.dtype.kind in "biuf":
        return value.tolist()
    raise invalid_argument(
        f"Failed to write JSON value for tensor type: {_dtype_name(tf.as_dtype(value.dtype))}"
    )


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_plain_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _type_error(value: Any, dtype: tf.DType) -> NoReturn:
    kind = str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]
    raise invalid_argument(
        f"JSON Value: {_show(value)} Type: {kind} is not of expected type: {_dtype_name(dtype)}"
    )


def _dtype_name(dtype: tf.DType) -> str:
    """The C++ runtime's name of a type (``DataTypeString``)."""
    return {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return quoted(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def _show_shape(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
