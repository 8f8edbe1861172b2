"""Every bad request gets TF Serving's status, a message that helps, and no harm."""

import json
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer

MIND = "/v1/models/mind:predict"


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=LONG_SECONDS) as client:
        yield client


@pytest.fixture(autouse=True)
def _still_serves(http):
    yield
    response = http.post(MIND, json={"inputs": {"history": [["1"]], "k": 2}})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs": ', "JSON Parse error: Invalid value. at offset: 11"),
        (b"", "JSON Parse error: The document is empty"),
        (b'{"inputs": {}}', "Missing named input: history in 'inputs' object."),
        (b'{"inputs": {"history": [[1, 2]]}}', "is not of expected type: string"),
        (b'{"inputs": {"history": "1"}}', "input history has shape [], the signature states [?,?]"),
        (b'{"inputs": {"history": [["1"], ["2", "3"]]}}', "list at unexpected size: 2"),
        (b'{"inputs": {"history": [["1"]], "k": "5"}}', "is not of expected type: int32"),
        (b'{"inputs": {"history": [["1"]], "k": 0}}', "k must be from 1 to 1000"),
        (b'{"inputs": {"history": [["1"]], "k": -3}}', "k must be from 1 to 1000"),
        (b'{"inputs": {"history": [["1"]], "k": 1001}}', "k must be from 1 to 1000"),
        (b'{"inputs": {"history": [["1"]], "kk": 1}}', "does not have named input: kk"),
        (b'{"inputs": {"history": [[{"b64": "?"}]]}}', "Unable to base64 decode"),
        (b'{"inputs": {"history": [["1"]]}, "signature_name": "x"}', '"x" not found in signature'),
    ],
)
def test_bad_bodies(http, body, message):
    response = http.post(MIND, content=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"diversity": 1.01}, "diversity must be from 0 to 1"),
        ({"diversity": [-0.5]}, "diversity must be from 0 to 1"),
        ({"diversity": "0.5"}, "is not of expected type: float"),
        ({"diversity": float("nan")}, "diversity must be from 0 to 1"),
        ({"diversity": [0.1, 0.2]}, "diversity must be one value, or one per row of history"),
        ({"k": [1, 2]}, "k must be one value, or one per row of history"),
        (
            {"allow_categories": ["war"]},
            "input allow_categories has shape [1], the signature states [?,?]",
        ),
        ({"deny_categories": [[7]]}, "is not of expected type: string"),
        ({"deny_category": [["war"]]}, "does not have named input: deny_category"),
    ],
)
def test_bad_wishes(http, inputs, message):
    body = json.dumps({"inputs": {"history": [["1"]], **inputs}})
    response = http.post("/v1/models/shop:predict", content=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_wishes_where_items_have_no_category(http):
    body = {"inputs": {"history": [["1"]], "diversity": 0.5}}
    response = http.post(MIND, json=body)
    assert response.status_code == 400
    assert "does not have named input: diversity. Inputs of this" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        (
            "POST",
            "/v1/models/mind/versions/9:predict",
            404,
            "Servable not found for request: Specific(mind, 9)",
        ),
        (
            "POST",
            "/v1/models/mind/labels/x:predict",
            400,
            "Unrecognized servable version label: x",
        ),
        (
            "POST",
            f"/v1/models/mind/versions/{2**63}:predict",
            400,
            f"Failed to convert version: {2**63} to numeric.",
        ),
        ("GET", f"/v1/models/mind/versions/{'7' * 5000}", 400, "Failed to convert version: 777"),
        ("POST", "/v1/models/mind", 400, "Malformed request: POST /v1/models/mind"),
        ("GET", "/v1/models/mind:predict", 400, "Malformed request: GET"),
        ("PUT", "/v1/models/mind:predict", 400, "Malformed request: PUT"),
        ("GET", "/v1/models/none", 404, "Could not find any versions of model none"),
        ("GET", "/v1/models/mind/versions/9", 404, "Could not find version 9 of model mind"),
        ("GET", "/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("POST", "/v1/models/mind:classify", 501, "use :predict"),
        ("POST", "/v1/models/%F0%9F%92%A5:predict", 404, "Servable not found"),
    ],
)
def test_bad_paths(http, method, path, status, message):
    response = http.request(method, path, content=b"{}")
    assert response.status_code == status
    assert message in response.json()["error"]


def test_a_history_of_a_million_items(server, http):
    # Over the server's limit it is refused before it is read ...
    response = http.post(MIND, json={"inputs": {"history": [["1"] * 10**6]}})
    assert response.status_code == 413
    assert "larger than the limit of 1048576 bytes" in response.json()["error"]
    # ... and what just fits is served.
    body = b'{"inputs": {"history": [[%s]], "k": 3}}' % b",".join([b'"1"'] * 200_000)
    assert len(http.post(MIND, content=body).json()["outputs"]["item_ids"][0]) == 3


def test_k_beyond_the_catalogue_is_padded(http):
    response = http.post(MIND, json={"inputs": {"history": [["1"]], "k": 1000}})
    ids = response.json()["outputs"]["item_ids"][0]
    assert len(ids) == 1000
    assert ids.index("") == 199
    assert set(ids[199:]) == {""}


def test_a_slow_client_is_cut_off(recommender, tmp_path):
    serving_models.push(recommender, tmp_path / "mind", 1)
    request = (
        b"POST /v1/models/mind:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    )
    with RunningServer(
        model_base_path=str(tmp_path / "mind"), request_timeout_seconds=1.0
    ) as server:
        # Half a body, then silence: an answer comes, and the connection ends.
        address = ("127.0.0.1", server.server.rest_port)
        with socket.create_connection(address, timeout=LONG_SECONDS) as slow:
            slow.sendall(request)
            answer = b""
            while chunk := slow.recv(4096):
                answer += chunk
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"longer than the limit of 1 seconds" in answer


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
_histories = st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=3)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "signature_name": st.sampled_from(["serving_default", "item_titles", ""]) | _values,
            "inputs": st.fixed_dictionaries(
                {},
                optional={
                    "history": _histories | _values,
                    "k": st.integers(-2, 1002) | _values,
                    "exclude": _histories | _values,
                    "exclude_history": st.booleans() | _values,
                    "user_age": st.lists(st.text(max_size=2), max_size=3) | _values,
                    "items": st.lists(st.text(max_size=2)) | _values,
                },
            )
            | _values,
            "instances": st.lists(st.fixed_dictionaries({"history": _values})) | _values,
        },
    )
)
def test_no_body_makes_the_server_fail(http, body):
    response = http.post(MIND, content=json.dumps(body))
    assert response.status_code in (200, 400), response.text
    assert isinstance(response.json(), dict)
