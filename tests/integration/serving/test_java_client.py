"""A bundle and a server's answers in Java, which knows nothing of this project.

Maven fetches TensorFlow's runtime for Java; TF Serving's messages are generated from the
descriptors in tensorflow-serving-api.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2
from google.protobuf.internal import decoder, encoder
from tensorflow_serving.apis import predict_pb2

from contract import signatures as names
from contract.features import HISTORY
from tests import trained_export
from tests.running_server import wait_until
from tests.server_process import ServerProcess

pytestmark = pytest.mark.slow

_SOURCES = Path(__file__).with_name("java_client")
_REQUESTS = 300
_UNKNOWN = "never seen"
_TYPES = {names.ITEM_IDS: object, names.SCORES: np.float32}


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    """Runs a main class of the client with arguments."""
    missing = [name for name in ("mvn", "java", "javac") if shutil.which(name) is None]
    assert not missing, f"this test needs a JDK of Java 17 or newer and Maven; not found: {missing}"
    folder = tmp_path_factory.mktemp("java") / "client"
    shutil.copytree(_SOURCES, folder)
    (folder / "descriptors.binpb").write_bytes(_descriptors(predict_pb2.DESCRIPTOR))
    built = subprocess.run(
        ["mvn", "-q", "-B", "package"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, f"Maven could not build {_SOURCES}:\n{built.stdout[-5000:]}"
    classpath = f"{folder}/target/classes:{folder}/target/lib/*"

    def run(main, target, requests, answers):
        command = ["java", "-cp", classpath, f"client.{main}", target, requests, answers]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        return _read_delimited(answers, predict_pb2.PredictResponse)

    return run


@pytest.fixture(scope="module")
def server(pushed_exact, tmp_path_factory):
    log = tmp_path_factory.mktemp("served") / "log"
    flags = ("--model_base_path", str(pushed_exact), "--model_name", "mind")
    with ServerProcess(log, *flags, "--settle_seconds", "0") as running:
        wait_until(lambda: running.http.get("/ready").is_success)
        yield running


def test_java_gives_the_answers_of_the_server(java, server, pushed_exact, tmp_path):
    generator = np.random.default_rng(16)
    requests = [_random_inputs(generator) for _ in range(_REQUESTS)]
    file = tmp_path / "requests"
    _write_delimited(file, [_to_proto(inputs) for inputs in requests])
    (bundle,) = (path for path in pushed_exact.iterdir() if path.name.isdigit())

    rest = [_ask_rest(server, inputs) for inputs in requests]
    asked = java("AskServer", f"127.0.0.1:{server.grpc_port}", file, tmp_path / "asked")
    run = java("RunBundle", bundle, file, tmp_path / "run")

    assert len(asked) == len(run) == _REQUESTS
    for inputs, over_rest, over_grpc, in_java in zip(requests, rest, asked, run, strict=True):
        _check_same(_arrays(over_grpc), _arrays(in_java), inputs)
        _check_same(_arrays(over_grpc), over_rest, inputs)
    # What was asked is not all alike: people with and without known items, full and padded
    # answers, with and without lists of categories.
    known = np.concatenate([answer[names.NUM_KNOWN] for answer in rest])
    is_padded = [bool((answer[names.ITEM_IDS] == "").any()) for answer in rest]
    assert (known == 0).any()
    assert (known > 3).any()
    assert set(is_padded) == {True, False}
    for name in (names.ALLOW_CATEGORIES, names.DENY_CATEGORIES, names.DIVERSITY):
        assert 0 < sum(name in inputs for inputs in requests) < _REQUESTS


def _check_same(one, other, inputs):
    assert set(one) == set(other), inputs
    for name, value in one.items():
        assert value.shape == other[name].shape, (name, inputs)
        # Scores too are equal in each bit: both run the same graph, with the same kernels.
        np.testing.assert_array_equal(value, other[name], err_msg=f"{name} of {inputs}")


def _random_inputs(generator):
    """Inputs of one request, of one to three people; those with a default may be missing."""
    rows = int(generator.integers(1, 4))
    items = [*trained_export.catalogue(), _UNKNOWN, names.PADDING]

    def lists(values, longest):
        return generator.choice(values, (rows, int(generator.integers(1, longest + 1)))).tolist()

    inputs = {HISTORY: lists(items, 12)}
    if generator.random() < 0.2:  # nobody known
        inputs[HISTORY] = lists([_UNKNOWN, names.PADDING], 3)
    optional = {
        names.K: lambda: int(generator.integers(1, len(items) + 10)),
        names.EXCLUDE: lambda: lists(items, 8),
        names.EXCLUDE_HISTORY: lambda: bool(generator.random() < 0.5),
        names.DIVERSITY: lambda: float(np.float32(generator.random())),
        names.ALLOW_CATEGORIES: lambda: lists([*trained_export.GENRES, names.PADDING, "?"], 2),
        names.DENY_CATEGORIES: lambda: lists([*trained_export.GENRES, names.PADDING, "?"], 2),
    }
    for name, value in optional.items():
        if generator.random() < 0.5:
            inputs[name] = value()
    return inputs


def _to_proto(inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mind"
    for name, value in inputs.items():
        dtype = {int: tf.int32, float: tf.float32, bool: tf.bool}.get(type(value), tf.string)
        request.inputs[name].CopyFrom(_in_fields(value, dtype))
    return request


def _in_fields(value, dtype):
    """A TensorProto whose values are in the fields of their type, as Java's are."""
    array = np.array(value, dtype.as_numpy_dtype)
    proto = tf.make_tensor_proto(array, dtype, array.shape)
    proto.ClearField("tensor_content")
    field = {tf.int32: "int_val", tf.float32: "float_val", tf.bool: "bool_val"}.get(dtype)
    if field:
        del getattr(proto, field)[:]
        getattr(proto, field).extend(array.ravel().tolist())
    return proto


def _ask_rest(server, inputs):
    response = server.http.post("/v1/models/mind:predict", json={"inputs": inputs})
    outputs = response.raise_for_status().json()["outputs"]
    return {n: np.array(value, _TYPES.get(n, np.int32)) for n, value in outputs.items()}


def _arrays(response):
    arrays = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    arrays[names.ITEM_IDS] = np.vectorize(bytes.decode, otypes=[object])(arrays[names.ITEM_IDS])
    return arrays


def _descriptors(file):
    """A FileDescriptorSet of a file and of all that it imports."""
    found = {}

    def add(descriptor):
        for dependency in descriptor.dependencies:
            add(dependency)
        found[descriptor.name] = descriptor

    add(file)
    result = descriptor_pb2.FileDescriptorSet()
    for descriptor in found.values():
        descriptor.CopyToProto(result.file.add())
    return result.SerializeToString()


def _write_delimited(path, messages):
    with path.open("wb") as file:
        for message in messages:
            content = message.SerializeToString()
            encoder._EncodeVarint(file.write, len(content))
            file.write(content)


def _read_delimited(path, message_class):
    content, position, messages = path.read_bytes(), 0, []
    while position < len(content):
        size, position = decoder._DecodeVarint(content, position)
        messages.append(message_class.FromString(content[position : position + size]))
        position += size
    return messages
