"""A SavedModel's signature, unpacked once for fast use on every request."""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """One input or output of a signature.

    Attributes:
      tensor_name: Tensor in the graph that is fed or fetched.
      dtype: Element type.
      shape: Static shape; ``None`` for an unknown dimension, or for an unknown rank.
    """

    tensor_name: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    @classmethod
    def from_proto(cls, info: meta_graph_pb2.TensorInfo) -> "TensorSlot":
        """Reads a SignatureDef's TensorInfo."""
        shape = tf.TensorShape(info.tensor_shape)
        return cls(
            tensor_name=info.name,
            dtype=tf.as_dtype(info.dtype),
            shape=None if shape.rank is None else tuple(shape.as_list()),
        )

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension is unknown, as a batch dimension is."""
        return bool(self.shape) and self.shape[0] is None  # type: ignore[index]


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of a SavedModel that can be called.

    Attributes:
      inputs: Inputs by their names in requests.
      outputs: Outputs by their names in responses, sorted.
      defaults: Values of the inputs that a request may leave out.
    """

    inputs: dict[str, TensorSlot]
    outputs: dict[str, TensorSlot]
    defaults: dict[str, np.ndarray]

    def shape_problem(self, inputs: Mapping[str, np.ndarray]) -> str:
        """Describes the input whose shape contradicts the signature; empty if there is none.

        Such a shape is no reason to refuse a request: a graph may work on other shapes too, and
        TensorFlow does not check what it is fed.
        """
        for name, slot in self.inputs.items():
            shape = inputs[name].shape
            if slot.shape is None or (
                len(shape) == len(slot.shape)
                and all(s in (None, g) for s, g in zip(slot.shape, shape, strict=True))
            ):
                continue
            stated = ",".join("?" if size is None else str(size) for size in slot.shape)
            return (
                f"input {name} has shape [{','.join(map(str, shape))}], the signature states"
                f" [{stated}]"
            )
        return ""

    @classmethod
    def from_proto(cls, definition: meta_graph_pb2.SignatureDef) -> "Signature":
        """Reads a SignatureDef."""
        return cls(
            inputs={k: TensorSlot.from_proto(v) for k, v in sorted(definition.inputs.items())},
            outputs={k: TensorSlot.from_proto(v) for k, v in sorted(definition.outputs.items())},
            defaults={k: array_from_proto(v) for k, v in definition.defaults.items()},
        )


def dtype_name(dtype: tf.DType) -> str:
    """Returns the C++ runtime's name of a type (``DataTypeString``)."""
    names = {tf.float32: "float", tf.float64: "double", tf.half: "half"}
    return names.get(dtype, dtype.name)


# Field of a TensorProto that holds the values of each type.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.string: "string_val",
    tf.bool: "bool_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.half: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
    **dict.fromkeys((tf.int8, tf.int16, tf.int32, tf.uint8, tf.uint16), "int_val"),
}


_LARGE_ARRAY = 32  # elements; from this size on, encoding all of them at once is faster


def shape_from_proto(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    """Returns the shape of a TensorProto; one without a shape is a scalar.

    Raises:
      ValueError: a dimension is unknown.
    """
    sizes = tuple(dim.size for dim in proto.tensor_shape.dim)
    if min(sizes, default=0) < 0:
        raise ValueError(f"the shape must be known, got {list(sizes)}")
    return sizes


def array_from_proto(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Decodes a TensorProto; strings become an ``object`` array of bytes.

    Follows ``Tensor::FromProto`` of the C++ runtime, which differs from ``tf.make_ndarray``: the
    last value is repeated to fill the shape, surplus values are ignored, all elements are 0 if
    there is no value, and integers beyond the range of a small type wrap around.

    Raises:
      ValueError, TypeError: the proto is malformed.
    """
    shape = shape_from_proto(proto)
    dtype = tf.as_dtype(proto.dtype)
    if dtype not in _FIELDS:
        raise ValueError(f"tensors of type {dtype.name} cannot be fed")
    size = math.prod(shape)
    if not size:
        return np.empty(shape, dtype.as_numpy_dtype)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, size).reshape(shape)
    values = getattr(proto, _FIELDS[dtype])
    if dtype.is_complex:
        # The real and the imaginary part of each value.
        parts = np.array(values[: 2 * size], dtype.real_dtype.as_numpy_dtype)
        given = parts[: len(parts) // 2 * 2].view(dtype.as_numpy_dtype)
    elif dtype in (tf.half, tf.bfloat16):
        given = np.array(values[:size]).astype(np.uint16).view(dtype.as_numpy_dtype)
    elif dtype == tf.string:
        given = np.empty(min(len(values), size), object)
        given[:] = values[:size]
    else:
        field_type = np.int64 if dtype.is_integer and dtype.size < 8 else dtype.as_numpy_dtype
        given = np.array(values[:size], field_type).astype(dtype.as_numpy_dtype)
    if len(given) == size:
        return given.reshape(shape)
    absent = b"" if dtype == tf.string else 0
    array = np.full(size, given[-1] if len(given) else absent, given.dtype)
    array[: len(given)] = given
    return array.reshape(shape)


def _from_content(content: bytes, dtype: tf.DType, size: int) -> np.ndarray:
    """Decodes ``tensor_content``: all elements' bytes, preceded by their lengths for strings."""
    if dtype != tf.string:
        if len(content) != size * dtype.size:
            raise ValueError(
                f"tensor_content has {len(content)} bytes, but {size} elements of {dtype.name} need"
                f" {size * dtype.size}"
            )
        return np.frombuffer(content, dtype.as_numpy_dtype)
    lengths = []
    position = 0
    for _ in range(size):
        length = shift = 0
        while True:
            if position == len(content) or shift > 28:
                raise ValueError("tensor_content does not begin with the lengths of its strings")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if len(content) - position != sum(lengths):
        raise ValueError("the strings in tensor_content do not have the lengths that it states")
    array = np.empty(size, object)
    for index, length in enumerate(lengths):
        array[index] = content[position : position + length]
        position += length
    return array


def array_to_proto(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Encodes an array into an empty TensorProto; strings are an ``object`` array of bytes.

    The values go into the field of their type, like in ``Tensor::AsProtoField`` of the C++ runtime,
    and not into ``tensor_content``: clients without TensorFlow read that field.

    Raises:
      KeyError: there is no field for the array's type.
    """
    proto.dtype, field, parts = _encoding_of(array.dtype)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel() if parts is None else array.ravel().view(parts)
    packed = _packed(flat) if flat.size >= _LARGE_ARRAY else None
    if packed is None:
        getattr(proto, field).extend(flat.tolist())
    else:
        number = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number
        length_delimited = 2
        proto.MergeFromString(
            _varint(number << 3 | length_delimited) + _varint(len(packed)) + packed
        )


@functools.cache
def _encoding_of(dtype: np.dtype) -> tuple[int, str, np.dtype | None]:
    """Returns a type's number and field, and the type of the field's values if it differs."""
    of_tensor = tf.as_dtype(dtype)
    parts = None
    if of_tensor.is_complex:
        parts = np.dtype(of_tensor.real_dtype.as_numpy_dtype)
    elif of_tensor in (tf.half, tf.bfloat16):
        parts = np.dtype(np.uint16)
    return of_tensor.as_datatype_enum, _FIELDS[of_tensor], parts


def _packed(flat: np.ndarray) -> bytes | None:
    """Returns the values as the bytes of a packed field, if copying the bytes is enough.

    Adding the values one by one in Python takes a hundred times as long.
    """
    if flat.dtype in (np.float32, np.float64, np.bool_):
        return flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()
    if flat.dtype.kind in "iu" and flat.min() >= 0 and flat.max() < 0x80:
        return flat.astype(np.uint8).tobytes()
    return None


def _varint(number: int) -> bytes:
    groups = []
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
