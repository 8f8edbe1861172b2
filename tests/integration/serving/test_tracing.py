"""A trace through a server: from the request to the answer, the log and the metrics."""

import json
import logging
import re

import grpc
import numpy as np
import pytest
import tensorflow as tf
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import logs
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer

_TRACE, _OTHER, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "1" * 32, "00f067aa0ba902b7"
_PREDICT = "/v1/models/m:predict"
_RETURNED = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def _parent(trace_id=_TRACE, flags="01"):
    return f"00-{trace_id}-{_PARENT}-{flags}"


@pytest.fixture
def server(half_plus_two, tmp_path):
    serving_models.push(half_plus_two, tmp_path, 1)
    with RunningServer(
        model_base_path=str(tmp_path), model_name="m", log_requests="all"
    ) as running:
        yield running


@pytest.fixture
def written(caplog):
    """Gives the log's entries of requests, as the formatter writes them."""
    entries = []

    class Keep(logging.Handler):
        def emit(self, record):
            if record.msg == "request":
                # Now: the trace is known while the request is answered.
                entries.append(json.loads(logs.JsonFormatter().format(record)))

    caplog.set_level(logging.INFO, "serving")
    handler = Keep()
    logging.getLogger("serving").addHandler(handler)
    yield entries
    logging.getLogger("serving").removeHandler(handler)


def _ask(server, headers, body=None, path=_PREDICT):
    return server.http.post(path, json=body or {"instances": [1.0]}, headers=headers)


def _returned(headers):
    """Trace id, span id and flags that came back."""
    (value,) = [value for key, value in headers if key == "traceparent"]
    return _RETURNED.fullmatch(value).groups()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (_PREDICT, {"instances": [1.0]}, 200),
        (_PREDICT, {"instances": ["x"]}, 400),
        ("/v1/models/none:predict", {}, 404),
        ("/v1/nothing", {}, 400),
        ("/nothing", {}, 404),
        ("/health", {}, 405),
    ],
)
def test_over_rest_it_comes_back_whatever_the_answer(server, written, path, body, status):
    headers = [("traceparent", _parent()), ("tracestate", "a=1"), ("tracestate", "b=2")]
    response = _ask(server, headers, body, path)
    assert response.status_code == status
    trace_id, span_id, flags = _returned(response.headers.multi_items())
    assert (trace_id, flags) == (_TRACE, "01")
    assert response.headers["tracestate"] == "a=1,b=2"
    for entry in written:
        assert (entry["trace_id"], entry["span_id"]) == (trace_id, span_id)
    assert len(written) == path.startswith("/v1/")


def test_a_request_without_one_begins_one(server, written):
    seen = set()
    for headers in ({}, {"traceparent": "00-xyz"}, {"traceparent": _parent("0" * 32)}):
        response = _ask(server, {**headers, "tracestate": "a=1"})
        trace_id, _, flags = _returned(response.headers.multi_items())
        assert flags == "00"
        assert "tracestate" not in response.headers
        seen.add(trace_id)
    assert len(seen) == 3
    assert [entry["trace_id"] for entry in written][-1] == trace_id


def _call(server, metadata, value=1.0):
    """Trailing metadata and status name of a Predict call."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([value])))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        call = stub.Predict.future(request, timeout=LONG_SECONDS, metadata=metadata)
        return [*call.trailing_metadata()], call.code().name


@pytest.mark.parametrize(("value", "code"), [(np.float32(1.0), "OK"), (b"x", "INVALID_ARGUMENT")])
def test_over_grpc_it_comes_back_with_the_status(server, written, value, code):
    metadata = [("traceparent", _parent()), ("tracestate", "a=1")]
    trailing, seen = _call(server, metadata, value)
    assert seen == code
    trace_id, span_id, flags = _returned(trailing)
    assert (trace_id, flags) == (_TRACE, "01")
    assert ("tracestate", "a=1") in trailing
    assert [(entry["trace_id"], entry["span_id"]) for entry in written] == [(trace_id, span_id)]
    # Another call has nothing of this one.
    trailing, _ = _call(server, [("traceparent", "x")], value)
    assert _returned(trailing)[0] not in ("x", _TRACE)
    assert _returned(trailing)[2] == "00"


def test_refused_calls_are_traced_too(half_plus_two, tmp_path, written):
    serving_models.push(half_plus_two, tmp_path / "base", 1)
    (tmp_path / "tokens").write_text("0123456789abcdef\n")
    with RunningServer(
        model_base_path=str(tmp_path / "base"), auth_token_file=str(tmp_path / "tokens")
    ) as server:
        response = _ask(server, {"traceparent": _parent()})
        assert response.status_code == 401
        assert _returned(response.headers.multi_items())[0] == _TRACE
        trailing, code = _call(server, [("traceparent", _parent())])
        assert code == "UNAUTHENTICATED"
        assert _returned(trailing)[0] == _TRACE
    assert [entry["trace_id"] for entry in written] == [_TRACE, _TRACE]


def _exemplars(server):
    """Trace ids by name of the histogram, and the page's content type."""
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    page = server.http.get("/metrics", headers={"Accept": accept})
    found = {}
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            if sample.exemplar:
                found.setdefault(family.name, set()).add(sample.exemplar.labels["trace_id"])
    return found, page.headers["Content-Type"]


def test_sampled_traces_are_exemplars_of_the_latency(server):
    _ask(server, {})
    _ask(server, {"traceparent": _parent(_OTHER, "00")})
    assert _exemplars(server)[0] == {}
    _ask(server, {"traceparent": _parent()})
    found, content_type = _exemplars(server)
    assert found == {
        "serving_request_seconds": {_TRACE},
        "serving_release_request_seconds": {_TRACE},
    }
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    _call(server, [("traceparent", _parent(_OTHER))], np.float32(1.0))
    assert any(_OTHER in ids for ids in _exemplars(server)[0].values())
    # Who does not ask for it gets the format that everybody reads, which has no exemplars.
    for accept in ("*/*", "text/plain;version=0.0.4", ""):
        page = server.http.get("/metrics", headers={"Accept": accept})
        assert page.headers["Content-Type"].startswith("text/plain")
        assert "# EOF" not in page.text
        assert _TRACE not in page.text
