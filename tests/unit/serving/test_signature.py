"""Arrays to and from TensorProtos, beside TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.signature import array_from_proto, array_to_proto


@pytest.mark.parametrize(
    "array",
    [
        np.array([[b"50", b""], [b"\xff\x00", "é".encode()]], object),
        np.array(b"alone", object),
        np.empty([2, 0], object),
        np.array([[0.1, -np.inf], [np.nan, 3.0]], np.float32),
        np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2],  # not contiguous
        np.array([7], np.int64),
        np.array(True),
        np.array([1.5, -0.0], np.float16),
        np.array([1.5, 2.0], tf.bfloat16.as_numpy_dtype),
        np.array([[1 + 2j, -1j]], np.complex64),
        np.array([255, 0], np.uint8),
        np.array([-(2**15)], np.int16),
        np.array([2**64 - 1], np.uint64),
        np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100),
        np.linspace(-1, 1, 300)[::-1],
        np.arange(300) % 3 == 0,
        np.arange(128),
        np.arange(400, dtype=np.float32).reshape(20, 20)[:, ::2],
        np.arange(129, dtype=np.int32),
        np.arange(-5, 100, dtype=np.int16),
        np.linspace(-1, 1, 300).astype(np.complex128),
    ],
    ids=[
        *("strings", "one string", "no strings", "floats", "strided", "one integer", "scalar"),
        *("half", "bfloat16", "complex", "uint8", "int16", "uint64"),
        *("many floats", "many doubles", "many booleans", "many small integers", "strided"),
        *("many integers", "many negative integers", "many complex"),
    ],
)
def test_what_is_encoded_is_what_tensorflow_reads(array):
    proto = tensor_pb2.TensorProto()
    array_to_proto(array, proto)
    for read in (tf.make_ndarray(proto), array_from_proto(proto)):
        assert read.shape == array.shape
        np.testing.assert_array_equal(read, array)
    assert proto.dtype == tf.make_tensor_proto(array).dtype
    # Clients without TensorFlow read the field of the type.
    assert not proto.tensor_content


def _proto(dtype, shape=(), **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **fields)
    for size in shape or ():
        proto.tensor_shape.dim.add(size=size)
    if shape is None:
        proto.tensor_shape.unknown_rank = True
    return proto


_MALFORMED_OR_NOT = {
    "repeated": _proto(tf.float32, [3], float_val=[1.0, 2.0]),
    "too many": _proto(tf.float32, [2], float_val=[1.0, 2.0, 3.0]),
    "no value": _proto(tf.float32, [2]),
    "no string": _proto(tf.string, [2]),
    "repeated strings": _proto(tf.string, [2, 2], string_val=[b"a", b"\xff"]),
    "too many strings": _proto(tf.string, [1], string_val=[b"a", b"b"]),
    "no shape": _proto(tf.int64, int64_val=[7]),
    "no shape, two values": _proto(tf.int64, int64_val=[7, 8]),
    "unknown rank": _proto(tf.int64, None, int64_val=[7]),
    "wrapped": _proto(tf.uint8, [3], int_val=[300, -1, 5]),
    "int16": _proto(tf.int16, [2], int_val=[-5, 70_000]),
    "values of another field": _proto(tf.int32, [1], int64_val=[7]),
    "half": _proto(tf.half, [3], half_val=[0x3C00, 0xC000]),
    "bfloat16": _proto(tf.bfloat16, [2], half_val=[0x3F80]),
    "bool": _proto(tf.bool, [3], bool_val=[True, False]),
    "uint32": _proto(tf.uint32, [1], uint32_val=[2**32 - 1]),
    "uint64": _proto(tf.uint64, [1], uint64_val=[2**64 - 1]),
    "complex": _proto(tf.complex64, [2], scomplex_val=[1.0, -2.0]),
    "content": _proto(tf.int32, [2], tensor_content=b"\1\0\0\0\2\0\0\0"),
    "content and values": _proto(tf.int32, [1], tensor_content=b"\1\0\0\0", int_val=[5]),
    "content too short": _proto(tf.int32, [3], tensor_content=b"\1\0\0\0\2\0\0\0"),
    "content too long": _proto(tf.int32, [1], tensor_content=b"\1\0\0\0\2\0\0\0"),
    "content of nothing": _proto(tf.int32, [0], tensor_content=b"\1\0\0\0"),
    "strings in content": _proto(tf.string, [2], tensor_content=b"\1\2abc"),
    "long string in content": _proto(tf.string, [1], tensor_content=b"\x82\1" + b"x" * 130),
    "short strings in content": _proto(tf.string, [2], tensor_content=b"\1\2ab"),
    "lengths cut off": _proto(tf.string, [2], tensor_content=b"\1"),
    "negative size": _proto(tf.float32, [-1], float_val=[1.0]),
    "empty": _proto(tf.float32, [2, 0]),
}


@pytest.mark.parametrize("proto", _MALFORMED_OR_NOT.values(), ids=_MALFORMED_OR_NOT)
def test_protos_are_read_as_the_cpp_runtime_reads_them(proto):
    dtype = tf.as_dtype(proto.dtype)
    try:
        # The kernel calls Tensor::FromProto, as TF Serving does.
        expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except tf.errors.InvalidArgumentError:
        with pytest.raises(ValueError, match=r"tensor_content|shape must be known|strings"):
            array_from_proto(proto)
        return
    read = array_from_proto(proto)
    assert read.dtype == dtype.as_numpy_dtype
    assert read.shape == np.shape(expected)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("dtype", [tf.resource, tf.qint8])
def test_types_that_cannot_be_fed(dtype):
    with pytest.raises(ValueError, match="cannot be fed"):
        array_from_proto(_proto(dtype, [1]))
