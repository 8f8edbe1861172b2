"""TF Serving's JSON request and response formats, to and from NumPy arrays.

Follows https://www.tensorflow.org/tfx/serving/api_rest and, for what that page
leaves open (error texts, conversion of numbers), the server's own
``util/json_tensor.cc``. docs/server.md lists what differs on purpose.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from contract.signatures import SERVE
from serving.errors import ServingError, invalid_argument, quoted
from serving.json_arrays import is_plain_object, shape_of, show_shape, to_array, to_json, write
from serving.json_document import RepeatedKeys, parse_object, show
from serving.limits import Limits
from serving.signature import Signature

_MARKS = (b",", b"[", b"{")
_FEW_MARKS = 10_000  # so few cost no time
_MAX_MARKS_PER_ELEMENT = 2  # leaves room for base64 objects, ids with commas, and names


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """A decoded ``:predict`` body.

    Attributes:
      signature_name: Signature to run.
      inputs: Arrays by input name; strings are ``object`` arrays of bytes.
      row_format: Whether the body used ``instances``, so that the answer uses ``predictions``.
    """

    signature_name: str
    inputs: dict[str, np.ndarray]
    row_format: bool


def parse_predict_document(body: bytes, limits: Limits) -> dict[str, Any]:
    """Parses the body of a ``:predict`` request, as far as that needs no model.

    Args:
      body: JSON.
      limits: Largest sizes of bodies that are parsed.

    Raises:
      ServingError: INVALID_ARGUMENT.
    """
    # Values are usually separated by commas, and lists and objects begin with brackets. Counting
    # these marks detects bodies whose values would take a hundred times their size in memory, and
    # seconds to parse.
    most = max(_MAX_MARKS_PER_ELEMENT * limits.elements, _FEW_MARKS)
    if sum(map(body.count, _MARKS)) > most:
        raise invalid_argument(
            f"The request has more than {limits.elements} elements, which is the limit"
            " (max_request_elements), or more brackets and commas than they need"
        )
    document = parse_object(body)
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid_argument(
            f"JSON Value: {show(document)} not formatted correctly. 'signature_name' key must be"
            " a string value."
        )
    return document


def decode_predict_request(
    document: dict[str, Any], signatures: Mapping[str, Signature], limits: Limits
) -> PredictRequest:
    """Decodes the tensors of a ``:predict`` request.

    Args:
      document: The parsed body, as ``parse_predict_document`` returns it.
      signatures: The model's signatures, which give the type of each input.
      limits: Largest sizes of inputs that are decoded.

    Raises:
      ServingError: INVALID_ARGUMENT, with TF Serving's wording where TF Serving refuses the request
        too; UNIMPLEMENTED for an input of a type that JSON cannot represent.
    """
    asked = document.get("signature_name", "")
    name = asked or SERVE
    if name not in signatures:
        raise invalid_argument(
            f'Serving signature name: "{quoted(name)}" not found in signature def'
        )
    signature = signatures[name]
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {asked or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise invalid_argument(
            f"JSON Value: {show(document)} Not formatted correctly expecting only one of"
            " 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid_argument(
                f"JSON Value: {show(document)} Expecting 'instances' to be an list/array"
            )
        if not rows:
            raise invalid_argument(f"JSON Value: {show(document)} No values in 'instances' array")
        return PredictRequest(name, _from_rows(rows, signature, limits), row_format=True)
    if "inputs" in document:
        inputs = _from_columns(document["inputs"], signature, limits)
        return PredictRequest(name, inputs, row_format=False)
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def format_predict_response(outputs: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """Encodes the outputs of a signature as a ``:predict`` response body.

    A single output is written alone; several are keyed by name. Strings of outputs named
    ``*_bytes`` become base64 objects.

    Raises:
      ServingError: the outputs differ in batch size (row format only), or have a type that JSON
        cannot represent.
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
    columns = {name: to_json(name, outputs[name]) for name in sorted(outputs)}
    is_finite = all(
        bool(np.isfinite(value).all()) for value in outputs.values() if value.dtype.kind == "f"
    )
    payload: Any
    if not row_format:
        payload = columns if len(columns) > 1 else next(iter(columns.values()))
        return write({"outputs": payload}, is_finite=is_finite)
    if len(columns) == 1:
        payload = next(iter(columns.values()))
    else:
        payload = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    return write({"predictions": payload}, is_finite=is_finite)


def format_error(message: str) -> bytes:
    """Encodes an error body: ``{"error": message}``."""
    # A message may repeat lone surrogates of a request, which cannot be encoded as UTF-8.
    return write({"error": message.encode("utf-8", "replace").decode()})


def _from_rows(rows: list[Any], signature: Signature, limits: Limits) -> dict[str, np.ndarray]:
    infos = signature.inputs
    keyed = is_plain_object(rows[0])
    # All rows must have the shapes of the first.
    first_row = rows[0] if keyed else {next(iter(infos)): rows[0]}
    limits.check_shapes((name, (len(rows), *shape_of(value))) for name, value in first_row.items())
    if not isinstance(rows[0], dict) and len(infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    names = set(infos)
    required = names - set(signature.defaults)
    cells: dict[str, list[np.ndarray]] = {}
    for position, row in enumerate(rows):
        if keyed != is_plain_object(row):
            expected, got = ("object", "list") if keyed else ("value/list", "object")
            raise invalid_argument(
                f"Expecting {expected} but got {got} at item {position} of input list"
            )
        if isinstance(row, RepeatedKeys):
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object:"
                f" {show(row)} has a key more than once"
            )
        values = row if keyed else {next(iter(infos)): row}
        for name, value in values.items():
            where = f"Failed to process element: {position} "
            if keyed:
                where += f"key: {quoted(name)} "
            where += "of 'instances' list. Error: INVALID_ARGUMENT: "
            if name not in infos:
                raise invalid_argument(
                    f"{where}JSON object: does not have named input: {quoted(name)}"
                )
            try:
                cell = to_array(value, infos[name].dtype)
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
                    f"{where}Expecting shape {show_shape(first[0].shape)} but got:"
                    f" {show_shape(cell.shape)}"
                )
            first.append(cell)
        # An input that the first row leaves to its default must be left out of every row.
        if not required <= set(values) or any(len(c) != position + 1 for c in cells.values()):
            expected_names = names if not signature.defaults else required | set(cells)
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object:"
                f" {show(row)} keys must be equal to: {','.join(sorted(expected_names))}"
            )
    return {name: np.stack(values) for name, values in cells.items()}


def _from_columns(value: Any, signature: Signature, limits: Limits) -> dict[str, np.ndarray]:
    infos = signature.inputs
    columns = value if is_plain_object(value) else {next(iter(infos)): value}
    limits.check_shapes((name, shape_of(column)) for name, column in columns.items())
    if not is_plain_object(value):
        if len(infos) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        name = next(iter(infos))
        return {name: to_array(value, infos[name].dtype)}
    # TF Serving ignores unknown names here. That would silently drop a misspelt optional input, so
    # this server refuses them.
    unknown = set(value) - set(infos)
    if unknown:
        raise invalid_argument(
            f"JSON object: does not have named input: {quoted(','.join(sorted(unknown)))}."
            f" Inputs of this signature: {','.join(sorted(infos))}"
        )
    for name in sorted(set(infos) - set(signature.defaults)):
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
    return {name: to_array(item, infos[name].dtype) for name, item in value.items()}
