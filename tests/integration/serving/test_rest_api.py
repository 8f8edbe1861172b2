"""TF Serving's documented REST examples, on the model of its documentation.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import httpx
import pytest

from tests.running_server import LONG_SECONDS


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=LONG_SECONDS) as client:
        yield client


def _predict(http, body, path="/v1/models/half_plus_two"):
    return http.post(f"{path}:predict", json=body)


def test_row_format(http):
    response = _predict(http, {"instances": [1.0, 2.0, 5.0]})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/json")
    assert response.json() == {"predictions": [2.5, 3.0, 4.5]}


def test_column_format(http):
    assert _predict(http, {"inputs": [1.0, 2.0, 5.0]}).json() == {"outputs": [2.5, 3.0, 4.5]}


def test_named_outputs_in_both_formats(http):
    rows = {"signature_name": "two", "instances": [{"x1": 5, "x2": 3}, {"x1": 1, "x2": 1}]}
    assert _predict(http, rows).json() == {
        "predictions": [{"difference": 2.0, "sum": 8.0}, {"difference": 0.0, "sum": 2.0}]
    }
    columns = {"signature_name": "two", "inputs": {"x1": [5, 1], "x2": [3, 1]}}
    assert _predict(http, columns).json() == {
        "outputs": {"difference": [2.0, 0.0], "sum": [8.0, 2.0]}
    }


def test_base64_in_and_out(http):
    body = {
        "signature_name": "bytes",
        "instances": [{"image_bytes": {"b64": "/w=="}}, {"image_bytes": {"b64": "aGVsbG8="}}],
    }
    assert _predict(http, body).json() == {
        "predictions": [
            {"echo_bytes": {"b64": "/w=="}, "length": 1},
            {"echo_bytes": {"b64": "aGVsbG8="}, "length": 5},
        ]
    }


def test_every_type_comes_back_as_it_went(http):
    values = {
        "a_float": [0.1, 3.0],
        "a_double": [[0.1]],
        "an_int32": -(2**31),
        "an_int64": [2**53 + 1],
        "a_uint8": [0, 255],
        "a_bool": [True, False],
        "a_string": "日本",
    }
    outputs = _predict(http, {"signature_name": "types", "inputs": values}).json()["outputs"]
    assert outputs == {f"{name}_out": value for name, value in values.items()}


def test_inputs_left_to_their_defaults(http):
    def y(**inputs):
        body = {"signature_name": "defaults", "inputs": inputs}
        return _predict(http, body).json()["outputs"]

    assert y(x=[1.0, 2.0]) == [3.0, 4.0]
    assert y(x=[1.0, 2.0], plus=10) == [11.0, 12.0]
    assert y(x=[1.0, 2.0], plus=0, scale=[2, 3]) == [2.0, 6.0]


@pytest.mark.parametrize(
    ("choice", "version"),
    [("", "2"), ("/versions/1", "1"), ("/versions/2", "2"), ("/labels/stable", "1")],
)
def test_versions_and_labels(http, choice, version):
    path = f"/v1/models/half_plus_two{choice}"
    assert _predict(http, {"instances": [1.0]}, path).json() == {"predictions": [2.5]}
    metadata = http.get(f"{path}/metadata").json()
    assert metadata["model_spec"] == {
        "name": "half_plus_two",
        "signature_name": "",
        "version": version,
    }


def test_paths_are_case_insensitive_like_tf_servings(http):
    response = http.post("/V1/Models/half_plus_two:predict", json={"instances": [1.0]})
    assert response.json() == {"predictions": [2.5]}


def test_status(http):
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert http.get("/v1/models/half_plus_two").json() == {
        "model_version_status": [{"version": "2", **available}, {"version": "1", **available}]
    }
    assert http.get("/v1/models/half_plus_two/versions/1").json() == {
        "model_version_status": [{"version": "1", **available}]
    }


def test_metadata_describes_the_signature(http):
    metadata = http.get("/v1/models/half_plus_two/metadata").json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    x = signature["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT"
    assert x["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_health_and_readiness(http):
    assert http.get("/health").json() == {"status": "alive"}
    assert http.get("/ready").status_code == 200


def test_a_gzip_body_is_read(http):
    import gzip

    response = http.post(
        "/v1/models/half_plus_two:predict",
        content=gzip.compress(b'{"instances": [1.0]}'),
        headers={"content-encoding": "gzip"},
    )
    assert response.json() == {"predictions": [2.5]}
