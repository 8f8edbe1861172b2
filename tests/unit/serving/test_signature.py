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
    ],
    ids=["strings", "one string", "no strings", "floats", "strided", "one integer", "scalar"],
)
def test_what_is_encoded_is_what_tensorflow_reads(array):
    proto = tensor_pb2.TensorProto()
    array_to_proto(array, proto)
    for read in (tf.make_ndarray(proto), array_from_proto(proto)):
        assert read.shape == array.shape
        np.testing.assert_array_equal(read, array)
    assert proto.dtype == tf.make_tensor_proto(array).dtype
