"""The JSON formats, against TF Serving's documented examples and error texts."""

import base64
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving import codec
from serving.codec import (
    decode_predict_request,
    format_error,
    format_predict_response,
    parse_predict_document,
)
from serving.config import ServerConfig
from serving.errors import ServingError
from serving.limits import Limits
from serving.signature import Signature, TensorSlot


def _signature(defaults=None, **types):
    return Signature(
        inputs={n: TensorSlot(f"{n}:0", t, None) for n, t in types.items()},
        outputs={},
        defaults=defaults or {},
    )


LIMITS = Limits.from_config(ServerConfig())
SIGNATURES = {
    "serving_default": _signature(x=tf.float32),
    "two": _signature(number=tf.int32, text=tf.string),
    "optional": _signature({"k": np.int32(10)}, history=tf.string, k=tf.int32),
    **{
        t.name: _signature(x=t)
        for t in (tf.int8, tf.uint8, tf.int64, tf.uint64, tf.bool, tf.string, tf.float64)
    },
    "complex": _signature(x=tf.complex64),
}


def _parse(body, **kwargs):
    document = parse_predict_document(
        body if isinstance(body, bytes) else json.dumps(body).encode(), LIMITS
    )
    return decode_predict_request(document, SIGNATURES, LIMITS)


def _error(body):
    with pytest.raises(ServingError) as e:
        _parse(body)
    assert e.value.code == grpc.StatusCode.INVALID_ARGUMENT
    return e.value.message


@pytest.mark.parametrize("unit", [b"[" * 60 + b"]" * 60, b'{"a":' * 60 + b"0" + b"}" * 60, b"0"])
def test_a_body_of_more_values_than_elements_is_not_parsed(unit, monkeypatch):
    def fail(body):
        raise AssertionError("it is parsed, which takes seconds and a hundred times its size")

    limits = Limits(rows=10, answer_items=10, elements=10_000, rank=8)
    number = 20_001 // (unit.count(b"[") + unit.count(b"{") + 1) + 1
    body = b'{"inputs":{"x":[' + b",".join([unit] * number) + b"]}}"
    monkeypatch.setattr(codec, "parse_object", fail)
    with pytest.raises(ServingError, match="more than 10000 elements") as e:
        parse_predict_document(body, limits)
    assert e.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_row_format_of_one_input_batches_the_instances():
    request = _parse({"instances": [[1.0, 2], [3, 4.5]]})
    assert request.signature_name == "serving_default"
    assert request.row_format
    assert request.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(request.inputs["x"], [[1.0, 2.0], [3.0, 4.5]])


def test_row_format_of_named_inputs():
    request = _parse(
        {
            "signature_name": "two",
            "instances": [
                {"number": [[1, 2], [3, 4], [5, 6]], "text": ["foo", "bar"]},
                {"number": [[7, 8], [9, 0], [1, 2]], "text": ["baz", {"b64": "aGk="}]},
            ],
        }
    )
    assert request.inputs["number"].shape == (2, 3, 2)
    assert request.inputs["number"].dtype == np.int32
    assert request.inputs["text"].tolist() == [[b"foo", b"bar"], [b"baz", b"hi"]]


def test_column_format():
    request = _parse({"signature_name": "two", "inputs": {"number": [1, 2], "text": "é"}})
    assert not request.row_format
    assert request.inputs["number"].tolist() == [1, 2]
    assert request.inputs["text"].shape == ()
    assert request.inputs["text"].item() == "é".encode()


def test_column_format_of_one_input_may_be_a_plain_value():
    assert _parse({"inputs": [1, 2]}).inputs["x"].tolist() == [1.0, 2.0]
    assert _parse({"inputs": 3}).inputs["x"].shape == ()
    of_string = _parse({"signature_name": "string", "inputs": {"b64": "aGk"}})
    assert of_string.inputs["x"].item() == b"hi"  # padding may be missing


def test_base64_instances_of_one_input():
    body = {"signature_name": "string", "instances": [{"b64": "aGk="}, "plain"]}
    assert _parse(body).inputs["x"].tolist() == [b"hi", b"plain"]


def test_inputs_with_a_default_may_be_left_out():
    columns = _parse({"signature_name": "optional", "inputs": {"history": [["1"]]}})
    assert set(columns.inputs) == {"history"}
    rows = _parse({"signature_name": "optional", "instances": [{"history": ["1"]}] * 2})
    assert set(rows.inputs) == {"history"}
    assert rows.inputs["history"].shape == (2, 1)


def test_an_optional_input_must_be_in_every_row_or_none():
    message = _error(
        {"signature_name": "optional", "instances": [{"history": "1", "k": 1}, {"history": "2"}]}
    )
    assert "element: 1" in message
    assert message.endswith("keys must be equal to: history,k")


def test_nan_and_infinity_are_numbers():
    x = _parse(b'{"instances": [NaN, Infinity, -Infinity]}').inputs["x"]
    assert np.isnan(x[0])
    assert x[1] == np.inf
    assert x[2] == -np.inf


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b"hello", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a" 1}', "JSON Parse error: Missing a colon after a name of object member. at offset"),
        (b'{"a": "', "JSON Parse error: Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a": "\\x"}', "JSON Parse error: Invalid escape character in string. at offset"),
        (b"[" * 100_000, "JSON Parse error: Missing a comma or ']' after an array element."),
        (b"1" * 5000, "JSON Parse error: Number too big to be stored in double. at offset: 0"),
        (b"[1]", "JSON Value: [1] Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        ({"signature_name": 5}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "nope", "inputs": 1},
            'Serving signature name: "nope" not found in signature def',
        ),
        ({"inputs": 1, "instances": [1]}, "expecting only one of 'inputs' or 'instances' keys"),
        ({"instances": 1}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        (
            {"signature_name": "two", "instances": [1, 2]},
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map",
        ),
        (
            {"signature_name": "two", "inputs": [1]},
            "inputs is a plain value/list, but expecting an object as multiple input tensors"
            " required as per tensorinfo_map",
        ),
        (
            {"signature_name": "two", "inputs": {"number": 1}},
            "Missing named input: text in 'inputs' object.",
        ),
        (
            {"signature_name": "two", "inputs": {"number": 1, "text": "", "z": 1}},
            "does not have named input: z",
        ),
        (
            {"signature_name": "two", "instances": [{"number": 1, "text": "a", "z": 1}]},
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT:"
            " JSON object: does not have named input: z",
        ),
        (
            {"signature_name": "two", "instances": [{"number": 1}]},
            'JSON object: {\n    "number": 1\n} keys must be equal to: number,text',
        ),
        (
            {"signature_name": "two", "instances": [{"number": 1, "text": "a"}, [1]]},
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [1, {"x": 1}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        ({"instances": [[1, 2], [1]]}, "Expecting tensor size: 2 but got: 1"),
        ({"instances": [[[1, 2]], [[1], [2]]]}, "Expecting shape [1,2] but got: [2,1]"),
        ({"inputs": [[1, 2], [3]]}, "Encountered list at unexpected size: 1 at level: 1 expected"),
        ({"inputs": [[1], 2]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM."),
        ({"inputs": [1, [2]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": "a"}, 'JSON Value: "a" Type: String is not of expected type: float'),
        ({"inputs": None}, "JSON Value: null Type: Null is not of expected type: float"),
        ({"inputs": True}, "JSON Value: true Type: True is not of expected type: float"),
        ({"inputs": {"x": {"a": 1}}}, "Type: Object is not of expected type: float"),
        (b'{"instances": [{"x": 1, "x": 2}]}', "has a key more than once"),
        ({"inputs": [[[[1]], [["a"]]], [[[2, 3]]]]}, 'JSON Value: "a" Type: String'),
        ({"inputs": [1, [2], "a"]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"signature_name": "int64", "inputs": 1.0}, "Type: Number is not of expected type: int64"),
        ({"signature_name": "int64", "inputs": 2**63}, "is not of expected type: int64"),
        ({"signature_name": "uint64", "inputs": -1}, "is not of expected type: uint64"),
        ({"signature_name": "int8", "inputs": 128}, "is not of expected type: int8"),
        ({"signature_name": "bool", "inputs": 1}, "is not of expected type: bool"),
        ({"signature_name": "string", "inputs": 1}, "is not of expected type: string"),
        (
            {"signature_name": "string", "inputs": {"x": {"b65": ""}}},
            "not formatted correctly for base64 data",
        ),
        ({"signature_name": "string", "inputs": {"b64": "a"}}, "Unable to base64 decode"),
        ({"signature_name": "string", "inputs": {"b64": "é==="}}, "Unable to base64 decode"),
        ({"signature_name": "string", "inputs": {"b64": "aGk=="}}, "Unable to base64 decode"),
        (
            b'{"signature_name": "string", "inputs": {"b64": "aGk=", "b64": "aGk="}}',
            "does not have named input: b64",
        ),
    ],
)
def test_bad_bodies_are_refused_in_tf_servings_words(body, message):
    assert message in _error(body)


def test_a_type_that_json_cannot_carry_is_unimplemented():
    with pytest.raises(ServingError) as e:
        _parse({"signature_name": "complex", "inputs": 1})
    assert e.value.code == grpc.StatusCode.UNIMPLEMENTED
    assert "complex64" in e.value.message


def test_errors_do_not_repeat_a_long_value():
    assert len(_error({"inputs": "a" * 100_000})) < 400


OUTPUTS = {
    "int_tensor": np.arange(12, dtype=np.int32).reshape(2, 3, 2),
    "str_tensor": np.array([[b"foo", b"bar"], [b"baz", b"bat"]], object),
    "str_tensor_bytes": np.array([[b"hello"], [b"tf"]], object),
    "double_scalar_tensor": np.array([8.0, 9.0]),
}


def test_response_in_row_format():
    assert json.loads(format_predict_response(OUTPUTS, row_format=True)) == {
        "predictions": [
            {
                "double_scalar_tensor": 8.0,
                "int_tensor": [[0, 1], [2, 3], [4, 5]],
                "str_tensor": ["foo", "bar"],
                "str_tensor_bytes": [{"b64": "aGVsbG8="}],
            },
            {
                "double_scalar_tensor": 9.0,
                "int_tensor": [[6, 7], [8, 9], [10, 11]],
                "str_tensor": ["baz", "bat"],
                "str_tensor_bytes": [{"b64": "dGY="}],
            },
        ]
    }


def test_response_in_column_format():
    body = json.loads(format_predict_response(OUTPUTS, row_format=False))
    assert body["outputs"]["double_scalar_tensor"] == [8.0, 9.0]
    assert body["outputs"]["str_tensor"] == [["foo", "bar"], ["baz", "bat"]]


def test_a_single_output_stands_alone():
    y = {"y": np.array([2.5, 3.0], np.float32)}
    assert format_predict_response(y, row_format=True) == b'{"predictions":[2.5,3.0]}'
    assert format_predict_response(y, row_format=False) == b'{"outputs":[2.5,3.0]}'


def test_float32_has_no_noise_digits_and_whole_numbers_keep_their_point():
    y = {"y": np.array([0.1, 9000000, 999999, 555557.5, 3e-5], np.float32)}
    assert (
        format_predict_response(y, False)
        == b'{"outputs":[0.1,9000000.0,999999.0,555557.5,0.00003]}'
    )


def test_numbers_that_are_not_finite():
    y = {"y": np.array([np.nan, np.inf, 3, -np.inf], np.float32)}
    assert format_predict_response(y, True) == b'{"predictions":[NaN,Infinity,3.0,-Infinity]}'


def test_row_format_needs_one_batch_size():
    with pytest.raises(ServingError, match="b has inconsistent batch size: 1 expecting: 2"):
        format_predict_response({"a": np.zeros(2), "b": np.zeros(1)}, True)
    with pytest.raises(ServingError, match="Tensor name: y has no shape information"):
        format_predict_response({"y": np.array(1.0)}, True)
    with pytest.raises(ServingError, match="tensor type: complex64"):
        format_predict_response({"y": np.zeros(1, np.complex64)}, False)


def test_an_empty_batch():
    assert format_predict_response({"y": np.zeros((0, 2))}, True) == b'{"predictions":[]}'


def test_bytes_that_are_no_text_do_not_break_the_response():
    body = format_predict_response({"y": np.array([b"\xff"], object)}, False)
    assert json.loads(body) == {"outputs": ["\ufffd"]}
    assert json.loads(format_error("\ud800")) == {"error": "?"}


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)),
)
def test_floats_survive_the_round_trip(x):
    body = b'{"inputs":' + format_predict_response({"x": x}, False)[len(b'{"outputs":') :]
    back = _parse(body).inputs["x"]
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back, x)


@given(st.lists(st.binary(), min_size=1))
def test_bytes_survive_the_round_trip(values):
    x = np.empty(len(values), object)
    x[:] = values
    encoded = json.loads(format_predict_response({"x_bytes": x}, False))["outputs"]
    assert [base64.b64decode(value["b64"]) for value in encoded] == values
    back = _parse({"signature_name": "string", "inputs": encoded}).inputs["x"]
    assert back.tolist() == values


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.sampled_from([*SIGNATURES, "?", ""]),
    st.sampled_from(["inputs", "instances"]),
    _json | st.fixed_dictionaries({"x": _json}) | st.lists(st.fixed_dictionaries({"x": _json})),
)
def test_any_json_is_either_decoded_or_refused(signature_name, key, value):
    body = json.dumps({"signature_name": signature_name, key: value}).encode()
    refused = None
    try:
        request = _parse(body)
    except ServingError as e:
        refused = e
    if refused:
        assert refused.http_status in (400, 501)
        assert json.loads(format_error(refused.message))["error"]
    else:
        slots = SIGNATURES[request.signature_name].inputs
        for name, array in request.inputs.items():
            assert tf.as_dtype(array.dtype) == slots[name].dtype


@given(st.binary(max_size=200))
def test_any_bytes_are_either_decoded_or_refused(body):
    with pytest.raises(ServingError):
        _parse(body)
