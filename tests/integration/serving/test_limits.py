"""What a request may cost: at each limit it is served, beyond it refused, over both APIs."""

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests import serving_models
from tests.running_server import RunningServer

ROWS, ANSWER, ELEMENTS, RANK = 4, 20, 50, 3


@pytest.fixture(scope="module")
def limited(recommender, tmp_path_factory):
    base = tmp_path_factory.mktemp("limited")
    serving_models.push(recommender, base, 1)
    with RunningServer(
        model_base_path=str(base),
        max_request_rows=ROWS,
        max_answer_items=ANSWER,
        max_request_elements=ELEMENTS,
        max_input_rank=RANK,
    ) as server:
        yield server


def _rest(server, inputs, form="inputs"):
    """The status name and the error, as gRPC tells them."""
    body = {form: inputs}
    response = httpx.post(f"{server.url}/v1/models/mind:predict", json=body, timeout=600.0)
    name = {200: "OK", 400: "INVALID_ARGUMENT"}.get(response.status_code, response.text)
    return name, response.json().get("error", "")


def _grpc(server, inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mind"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return _send(server, request)


def _send(server, request):
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            stub.Predict(request, timeout=600.0)
        except grpc.RpcError as e:
            return e.code().name, e.details()
    return "OK", ""


def _nested(depth):
    value = "1"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("ask", [_rest, _grpc])
@pytest.mark.parametrize(
    ("within", "beyond", "flag"),
    [
        (
            {"history": [["1"]] * ROWS, "k": 5},
            {"history": [["1"]] * (ROWS + 1), "k": 2},
            "max_request_rows",
        ),
        (
            {"history": [["1"]] * 2, "k": ANSWER // 2},
            {"history": [["1"]] * 2, "k": ANSWER // 2 + 1},
            "max_answer_items",
        ),
        (
            # A row as long as the longest: 2 rows of 11 items.
            {"history": [["1"]] * 2, "k": [ANSWER // 2, 1]},
            {"history": [["1"]] * 2, "k": [ANSWER // 2 + 1, 1]},
            "max_answer_items",
        ),
        (
            {"history": [["1"] * (ELEMENTS - 1)], "k": 2},
            {"history": [["1"] * ELEMENTS], "k": 2},
            "max_request_elements",
        ),
    ],
)
def test_sizes(limited, ask, within, beyond, flag):
    assert ask(limited, within) == ("OK", "")
    code, message = ask(limited, beyond)
    assert code == "INVALID_ARGUMENT"
    assert flag in message


def test_the_row_format_has_the_same_limits(limited):
    def ask(rows, k, items=1):
        row = {"history": ["1"] * items, "k": k}
        return _rest(limited, [row] * rows, form="instances")

    assert ask(ROWS, 5)[0] == "OK"
    assert "max_request_rows" in ask(ROWS + 1, 1)[1]
    assert "max_answer_items" in ask(ROWS, 6)[1]
    assert "max_request_elements" in ask(2, 1, items=ELEMENTS // 2)[1]


@pytest.mark.parametrize("depth", [RANK + 1, 33, 900])
def test_nesting(limited, depth):
    code, message = _rest(limited, {"history": _nested(depth)})
    assert code == "INVALID_ARGUMENT"
    assert f"Input history has {depth} dimensions; the limit is 3 (max_input_rank)" in message
    # Within the limit, but not what the signature takes.
    assert (
        "shape [1,1,1], the signature states [?,?]" in _rest(limited, {"history": _nested(RANK)})[1]
    )


@pytest.mark.parametrize("depth", [RANK + 1, 33, 300])
def test_dimensions(limited, depth):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mind"
    tensor = request.inputs["history"]
    tensor.dtype = tf.string.as_datatype_enum
    tensor.string_val.append(b"1")
    for _ in range(depth):
        tensor.tensor_shape.dim.add(size=1)
    code, message = _send(limited, request)
    assert code == "INVALID_ARGUMENT"
    assert f"Input history has {depth} dimensions; the limit is 3 (max_input_rank)" in message


@pytest.mark.parametrize("shape", [(1, 8_388_608), (8_388_608, 1), (2**31, 2**31)])
def test_one_value_cannot_stand_for_millions(server, shape):
    """With the limits as they are by default: 40 bytes that would become gigabytes."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mind"
    tensor = request.inputs["history"]
    tensor.dtype = tf.string.as_datatype_enum
    tensor.string_val.append(b"1")
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    code, message = _send(server, request)
    assert code == "INVALID_ARGUMENT"
    assert "the limit is 1000000 (max_request_elements)" in message


def test_many_small_rows_are_refused_before_they_run(server):
    """By default: 20,000 rows of one item are a small body and a large answer."""
    rows = [["1"]] * 20_000
    assert "the limit is 1024 (max_request_rows)" in _rest(server, {"history": rows})[1]
    history = np.array(rows, object)
    assert "the limit is 1024 (max_request_rows)" in _grpc(server, {"history": history})[1]
