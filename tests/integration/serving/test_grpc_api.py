"""TF Serving's gRPC services."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests import serving_models
from tests.running_server import RunningServer


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def _request(name="half_plus_two", signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_predict(stub):
    response = stub.Predict(_request(x=np.array([1.0, 2.0, 5.0], np.float32)))
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 4.5]
    assert response.model_spec.name == "half_plus_two"
    assert response.model_spec.version.value == 2
    assert response.model_spec.signature_name == "serving_default"


def test_version_label_and_output_filter(stub):
    one = np.ones(1, np.float32)
    request = _request(signature="two", x1=one, x2=one)
    request.model_spec.version_label = "stable"
    request.output_filter.append("sum")
    response = stub.Predict(request)
    assert response.model_spec.version.value == 1
    assert list(response.outputs) == ["sum"]


def test_defaults_and_strings(stub):
    response = stub.Predict(_request("mind", history=[["3", ""]]))
    assert tf.make_ndarray(response.outputs["item_ids"]).shape == (1, 10)
    response = stub.Predict(_request("mind", history=np.zeros((0, 1), object)))
    assert tf.make_ndarray(response.outputs["item_ids"]).shape == (0, 10)


@pytest.mark.parametrize(
    ("kwargs", "code", "message"),
    [
        ({"name": "none"}, "NOT_FOUND", "Servable not found for request: Latest(none)"),
        ({"signature": "none"}, "FAILED_PRECONDITION", 'signature key "none" not found'),
        (
            {},
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}."
            " Missing but required: {x}.",
        ),
        (
            {"signature": "two", "x1": [1.0], "x3": [1.0]},
            "INVALID_ARGUMENT",
            "alias: x2(feed name: two_x2:0) not found in request and no default value provided.",
        ),
        ({"x": ["a"]}, "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
        (
            {"name": "mind", "history": ["1"]},
            "INVALID_ARGUMENT",
            "input history has shape [1], the signature states [?,?]",
        ),
        (
            {"signature": "defaults", "x": [1.0], "plus": -1.0},
            "INVALID_ARGUMENT",
            "plus must be >= 0",
        ),
        (
            {"signature": "two", "x1": [1.0, 2.0], "x2": [1.0, 2.0, 3.0]},
            "INVALID_ARGUMENT",
            "Incompatible shapes: [2] vs. [3]",
        ),
    ],
)
def test_errors(stub, kwargs, code, message):
    with pytest.raises(grpc.RpcError) as e:
        stub.Predict(_request(**kwargs))
    assert e.value.code().name == code
    assert message in e.value.details()
    assert "Traceback" not in e.value.details()
    assert "serving_models.py" not in e.value.details()


def test_outputs_that_do_not_exist(stub):
    request = _request(x=[1.0])
    request.output_filter.append("z")
    with pytest.raises(grpc.RpcError, match="alias not found in signature: z Outputs expected"):
        stub.Predict(request)
    del request.output_filter[:]
    request.output_filter.extend(["y", "y"])
    with pytest.raises(grpc.RpcError, match="duplicate output tensor alias: y"):
        stub.Predict(request)


def test_a_malformed_tensor(stub):
    request = _request()
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=3)
    request.inputs["x"].tensor_content = b"12345"
    with pytest.raises(grpc.RpcError, match="tensor parsing error"):
        stub.Predict(request)


_DTYPES = [0, 1, 2, 3, 7, 9, 10, 20, 21, 101, 200]


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(["half_plus_two", "mind", "x"]),
    st.sampled_from(["", "types", "defaults", "item_titles", "x"]),
    st.dictionaries(
        st.sampled_from(["x", "plus", "history", "k", "items", "a_string", "?"]),
        st.tuples(
            st.sampled_from(_DTYPES),
            st.lists(st.integers(-2, 5) | st.just(2**40), max_size=3),
            st.binary(max_size=24),
            st.lists(st.binary(max_size=3), max_size=3),
            st.lists(st.floats(width=32), max_size=3),
        ),
        max_size=3,
    ),
)
def test_no_tensor_makes_the_server_fail(stub, name, signature, tensors):
    request = _request(name, signature)
    for key, (dtype, shape, content, strings, floats) in tensors.items():
        proto = request.inputs[key]
        proto.dtype = dtype
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        proto.tensor_content = content
        proto.string_val.extend(strings)
        proto.float_val.extend(floats)
    try:
        stub.Predict(request)
    except grpc.RpcError as e:
        code = e.code().name
    else:
        code = "OK"
    assert code in {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}


def test_a_small_message_cannot_ask_for_a_huge_tensor(stub):
    request = _request(x=[1.0])
    del request.inputs["x"].tensor_shape.dim[:]
    request.inputs["x"].tensor_shape.dim.add(size=2**33)  # 32 GiB of the same value
    with pytest.raises(grpc.RpcError, match="the limit is 1000000") as e:
        stub.Predict(request)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_no_model_spec(stub):
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
        stub.Predict(predict_pb2.PredictRequest())


def test_a_message_over_the_limit(stub):
    with pytest.raises(grpc.RpcError) as e:
        stub.Predict(_request(x=np.zeros(2**19, np.float32)))
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata(stub):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half_plus_two"
    response = stub.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == 1
    assert tf.make_ndarray(signatures.signature_def["defaults"].defaults["plus"]) == 2.0
    request.metadata_field[0] = "other"
    with pytest.raises(grpc.RpcError, match="Metadata field other is not supported"):
        stub.GetModelMetadata(request)


def test_other_methods_are_unimplemented(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Classify")
    with pytest.raises(grpc.RpcError) as e:
        call(b"")
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_status(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus_two"
    states = stub.GetModelStatus(request).model_version_status
    assert [(s.version, s.state) for s in states] == [(2, 30), (1, 30)]
    request.model_spec.name = "none"
    with pytest.raises(grpc.RpcError, match="Could not find any versions of model none"):
        stub.GetModelStatus(request)


def test_reload_is_off_unless_allowed(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    with pytest.raises(grpc.RpcError) as e:
        stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
    assert e.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_reload_replaces_the_models(half_plus_two, tmp_path):
    for name in ("one", "two"):
        serving_models.push(half_plus_two, tmp_path / name, 1)
    with (
        RunningServer(
            model_base_path=str(tmp_path / "one"), model_name="one", allow_reload=True
        ) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = model_management_pb2.ReloadConfigRequest()
        entry = request.config.model_config_list.config.add(name="two")
        with pytest.raises(grpc.RpcError, match="needs a name and a base_path"):
            models.HandleReloadConfigRequest(request)
        assert stub.Predict(_request("one", x=[1.0]))  # as before
        entry.base_path = str(tmp_path / "two")
        assert models.HandleReloadConfigRequest(request).status.error_code == 0
        assert stub.Predict(_request("two", x=[1.0]))
        with pytest.raises(grpc.RpcError, match="Servable not found"):
            stub.Predict(_request("one", x=[1.0]))
