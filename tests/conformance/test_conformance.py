"""A running server answers as TF Serving does: the table of ``*_cases.py``, row by row."""

import json
import re
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from google.protobuf import text_format
from prometheus_client.openmetrics import parser as openmetrics_parser
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.conformance.cases import HALF_PLUS_TWO, MODEL, OLD_VERSION, Answer, Grpc, Rest
from tests.conformance.models import model_config
from tests.conformance.table import CASES, NUMBER_OF_CASES
from tests.running_server import LONG_SECONDS, RunningServer

_REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


def test_the_table_is_complete():
    assert len(CASES) == NUMBER_OF_CASES, "two rows have one name"
    assert NUMBER_OF_CASES >= 140
    for case in CASES.values():
        assert re.match(r"[\w/]+\.(cc|h|py|md): \S", case.source), case


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if isinstance(c.request, Rest)])
def test_rest(name: str, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    sent = case.request
    assert isinstance(sent, Rest)
    running = request.getfixturevalue("cors_server" if sent.to_cors else "server")
    response = running.http.request(
        sent.method, sent.path, content=sent.content(), headers=dict(sent.headers)
    )
    _check_rest(response, case.answer)


def _check_rest(response: httpx.Response, answer: Answer) -> None:
    assert response.status_code == answer.code, response.text
    if answer.body is not None:
        # As text: 1 is not 1.0, and NaN is NaN.
        assert _sorted(json.loads(response.content)) == _sorted(answer.body)
    if answer.error is not None:
        assert response.json() == {"error": answer.error}
        assert response.headers["Content-Type"] == "application/json"
    for part in _parts(answer):
        assert part in (response.json()["error"] if response.is_error else response.text)
    for header, value in answer.headers.items():
        assert response.headers.get(header) == value, header


def _sorted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _parts(answer: Answer) -> tuple[str, ...]:
    return (answer.has,) if isinstance(answer.has, str) else answer.has


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if isinstance(c.request, Grpc)])
def test_grpc(name: str, base: Path, channel: grpc.Channel) -> None:
    case = CASES[name]
    sent = case.request
    assert isinstance(sent, Grpc)
    text = sent.request.replace("{zoo}", model_config(base, MODEL))
    text = text.replace("{half_plus_two}", model_config(base, HALF_PLUS_TWO, OLD_VERSION))
    text = text.replace("{half_plus_two to 7}", model_config(base, HALF_PLUS_TWO, 7))
    message = text_format.Parse(text, _REQUESTS[sent.method]())
    stubs = (
        prediction_service_pb2_grpc.PredictionServiceStub(channel),
        model_service_pb2_grpc.ModelServiceStub(channel),
    )
    method = next(getattr(stub, sent.method) for stub in stubs if hasattr(stub, sent.method))
    if case.answer.code != "OK":
        with pytest.raises(grpc.RpcError) as refused:
            method(message, timeout=LONG_SECONDS)
        details = refused.value.details()
        assert refused.value.code().name == case.answer.code, details
        if case.answer.error is not None:
            assert details == case.answer.error
        for part in _parts(case.answer):
            assert part in details
        return
    response = method(message, timeout=LONG_SECONDS)
    shown = text_format.MessageToString(response)
    for part in _parts(case.answer):
        assert part in shown
    if isinstance(case.answer.body, dict):
        assert isinstance(response, predict_pb2.PredictResponse)
        described = _describe(response)
        assert {key: described[key] for key in case.answer.body} == case.answer.body
    elif case.answer.body is not None:
        assert response == text_format.Parse(case.answer.body, type(response)())


def _describe(response: predict_pb2.PredictResponse) -> dict[str, str]:
    """A predict response as short texts: the model, the names of the outputs, each of them."""
    spec = response.model_spec
    described = {
        "model_spec": f"{spec.name}/{spec.version.value}/{spec.signature_name}",
        "outputs": ",".join(sorted(response.outputs)),
    }
    for name, proto in response.outputs.items():
        array = tf.make_ndarray(proto)
        values = [v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel().tolist()]
        shape = f"{array.dtype}[{','.join(map(str, array.shape))}]"
        described[name] = " ".join([shape, *values])
    return described


# The source of each of these is util/prometheus_exporter.cc and servables/tensorflow/util.cc.


@pytest.fixture
def page(cors_server: RunningServer) -> str:
    """The metrics after one request that is answered and one that is refused."""
    path = f"/v1/models/{HALF_PLUS_TWO}:predict"
    assert cors_server.http.post(path, json={"inputs": 1}).status_code == 200
    assert cors_server.http.post(path, json={"inputs": "a"}).status_code == 400
    return cors_server.http.get("/monitoring/prometheus/metrics").text


def test_requests_are_counted_under_tf_servings_name(page: str) -> None:
    assert "# TYPE :tensorflow:serving:request_count counter\n" in page
    for status in ("OK", "INVALID_ARGUMENT"):
        line = f':tensorflow:serving:request_count{{model_name="half_plus_two",status="{status}"}} '
        assert line in page


def test_prometheus_finds_the_same_names_when_it_asks_for_openmetrics(
    page: str, cors_server: RunningServer
) -> None:
    asks = {"Accept": "application/openmetrics-text"}
    text = cors_server.http.get("/metrics", headers=asks).text

    # It is OpenMetrics, by its own strict parser.
    assert list(openmetrics_parser.text_string_to_metric_families(text))

    def names(page: str) -> set[str]:
        found = re.findall(r"(?m)^(:tensorflow[\w:]+){", page)
        # When a series began is told otherwise in the two formats.
        return {name for name in found if not name.endswith("_created")}

    assert names(text) == names(page)
    assert ":tensorflow:serving:request_count" in names(text)


def test_latencies_have_tf_servings_names_and_buckets(page: str) -> None:
    request = 'model_name="half_plus_two",API="predict",entrypoint="REST"'
    run = 'model_name="half_plus_two",API="Predict",runtime="TF1"'
    for name, labels in (("request_latency", request), ("runtime_latency", run)):
        assert f"# TYPE :tensorflow:serving:{name} histogram\n" in page
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            assert re.search(rf':tensorflow:serving:{name}_count{{[^}}]*{label}="{value}"', page)
        buckets = re.findall(rf':tensorflow:serving:{name}_bucket{{[^}}]*le="([^"]*)"', page)
        # Scale of 10, power of 1.8, 33 of them, and infinity.
        assert buckets[:3] == ["10.0", "18.0", "32.4"]
        assert len(set(buckets)) == 34
        assert "+Inf" in buckets
