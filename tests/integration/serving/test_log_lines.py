"""What reaches standard error of a server process: whole lines of JSON, without what was asked.

Every text that a client chooses carries a secret and a line break with a forged line.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import codec
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

_ROOT = Path(__file__).resolve().parents[3]
_SECRET = "item-that-somebody-bought"
_FORGED = '{"event": "forged"}'
# Line breaks to a terminal, to a log collector, and to Python.
_HOSTILE = f"{_SECRET}\n{_FORGED}\r\n{_FORGED}\r{_FORGED}\u2028{_FORGED}\x85{_FORGED}\x1b[2J\x03"


class _Process:
    """The server as people start it, with every log of its libraries asked for."""

    def __init__(self, base, log, *flags):
        self._log = log
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serving.server", "--model_base_path", str(base)),
                *("--model_name", "m", "--rest_port", "0", "--grpc_port", "0"),
                *("--settle_seconds", "0", "--log_requests", "all", *flags),
            ],
            stderr=log.open("w"),
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONWARNINGS": "always"},
            cwd=_ROOT,
        )
        wait_until(lambda: "version available" in self.log() or self.process.poll() is not None)
        # What libraries write when they are imported comes before it.
        self._begins = self.log().index('{"time"')
        self.rest_port = int(re.search(r'"rest_port": (\d+)', self.log())[1])
        self.grpc_port = int(re.search(r'"grpc_port": (\d+)', self.log())[1])

    def log(self):
        return self._log.read_bytes().decode("utf-8", "replace")

    def end(self):
        self.process.terminate()
        self.process.wait(LONG_SECONDS)

    def entries(self):
        """The log's lines since it listens, each of which must be an object."""
        lines = self.log()[self._begins :].split("\n")
        assert lines.pop() == ""
        return [json.loads(line) for line in lines]


def _rest(port):
    path = "/v1/models/m:predict"
    bodies = [
        {"signature_name": "number", "inputs": [_HOSTILE]},
        {"signature_name": "number", "instances": [_HOSTILE]},
        {"signature_name": _HOSTILE, "inputs": 1},
        {"signature_name": [_HOSTILE], "inputs": 1},
        {"inputs": {_HOSTILE: 1}},
        {"instances": [{_HOSTILE: 1}]},
        {"instances": [{"x": 1}, {_HOSTILE: 1}]},
        {"inputs": {"x": [_HOSTILE]}},
        {"signature_name": "bytes", "inputs": [{"b64": _HOSTILE}]},
        {_HOSTILE: _HOSTILE},
        [_HOSTILE],
        _HOSTILE,
    ]
    # With a line break a path is none of the API's.
    spellings = [
        urllib.parse.quote(text, safe="") for text in (_HOSTILE, _HOSTILE.replace("\n", ""))
    ]
    paths = [
        path
        for hostile in spellings
        for path in (
            f"/v1/models/{hostile}:predict",
            f"/v1/models/{hostile}",
            f"/v1/models/m/labels/{hostile}:predict",
            f"/v1/models/m/versions/1{hostile}:predict",
            f"/v1/models/m:{hostile}",
            f"/v1/{hostile}",
            f"/{hostile}",
            f"/demo/items?model={hostile}&q={hostile}",
            f"/v1/models/m?x={hostile}",
        )
    ]
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=LONG_SECONDS) as http:
        for body in bodies:
            assert http.post(path, json=body).status_code == 400
        assert http.post(path, content=_HOSTILE.encode()).status_code == 400
        assert http.post(path, content=b"\xff\n" + _FORGED.encode()).status_code == 400
        for hostile_path in paths:
            for method in ("GET", "POST"):
                assert http.request(method, hostile_path, content=b"{}").status_code < 500
    # httpx would not send these.
    value = _HOSTILE.encode().replace(b"\r\n", b"\n")
    for line in (
        b"x-caller-key: " + value,
        b"traceparent: " + value,
        b"tracestate: a=" + value,
        b"authorization: Bearer " + value,
        b"accept: " + value,
        b"content-type: " + value,
        b"content-encoding: " + value,
        b"origin: " + value,
        value + b": 1",
        b"x-caller-key: a\r\n\tb " + value,
    ):
        _send(port, b"GET /v1/models/none HTTP/1.1\r\nhost: localhost\r\n%b\r\n\r\n" % line)
        # Without line breaks it is a header that is taken.
        line = re.sub(rb"[\r\n\x00-\x08\x1b]", b" ", line)
        _send(port, b"GET /v1/models/none HTTP/1.1\r\nhost: localhost\r\n%b\r\n\r\n" % line)
    for start in (b"GET /" + value, value, b"GET / HTTP/" + value):
        _send(port, start + b"\r\nhost: localhost\r\n\r\n")


def _grpc(port):
    hostile = _HOSTILE
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)

        def predict(name="m", signature="", label="", filters=(), **inputs):
            request = predict_pb2.PredictRequest(output_filter=filters)
            request.model_spec.name, request.model_spec.signature_name = name, signature
            if label:
                request.model_spec.version_label = label
            for key, tensor in inputs.items():
                request.inputs[key].CopyFrom(tensor)
            return stub.Predict, request

        text = tf.make_tensor_proto(np.array([hostile.encode()], object))
        x = tf.make_tensor_proto(np.ones(1, np.float32))
        small = tf.make_tensor_proto(np.zeros(1, np.uint8))
        del small.int_val[:]
        small.tensor_content = b""
        small.int_val.append(77777)
        deep = tf.make_tensor_proto(np.ones([1] * 9, np.float32))
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = hostile
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[hostile])
        metadata.model_spec.name = "m"
        calls = [
            predict(signature="number", text=text),
            predict(x=text),
            predict(signature=hostile, x=x),
            predict(name=hostile, x=x),
            predict(label=hostile, x=x),
            predict(filters=[hostile], x=x),
            predict(**{hostile: x}),
            predict(**{hostile: deep}),
            predict(**{hostile: small}),
            predict(signature="types", a_uint8=small),
            (models.GetModelStatus, status),
            (stub.GetModelMetadata, metadata),
        ]
        for method, request in calls:
            with pytest.raises(grpc.RpcError) as e:
                method(request, timeout=LONG_SECONDS)
            assert e.value.code().name not in ("INTERNAL", "UNKNOWN")
        sent = re.sub(r"[^ -~]", " ", hostile)  # all that gRPC lets through
        for key in ("x-caller-key", "traceparent", "tracestate", "authorization"):
            predict(x=x)[0](predict(x=x)[1], metadata=[(key, sent)], timeout=LONG_SECONDS)
        bad = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for path in ("/tensorflow.serving.PredictionService/Predict", f"/{_SECRET}/x"):
            bad = channel.unary_unary(path)
            with pytest.raises(grpc.RpcError):
                bad(b"\xff" + hostile.encode(), timeout=LONG_SECONDS)
    _send(port, hostile.encode())


def _send(port, request):
    """Sends bytes and waits until the server has answered or closed."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=LONG_SECONDS)
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("flags", [(), ("--log_request_content",)])
def test_no_line_is_forged_and_nothing_of_a_request_is_written(half_plus_two, tmp_path, flags):
    serving_models.push(half_plus_two, tmp_path / "base", 1)
    server = _Process(tmp_path / "base", tmp_path / "log", *flags)
    try:
        _rest(server.rest_port)
        _grpc(server.grpc_port)
    finally:
        server.end()
    entries = server.entries()
    assert "forged" not in {entry["event"] for entry in entries}
    assert entries[-1]["event"] == "stopped"
    requests = [entry for entry in entries if entry["event"] == "request"]
    assert len(requests) > 50
    # The path names model, version and label; they are not what is asked of a model.
    in_paths = {"GetModelStatus", "status", "malformed", "metadata"}
    in_bodies = [
        entry
        for entry in requests
        if entry["method"] not in in_paths and entry["code"] == "INVALID_ARGUMENT"
    ]
    content = [
        entry
        for entry in in_bodies
        if _SECRET in json.dumps(entry) and "label" not in entry["error"]
    ]
    if flags:
        assert len(content) >= 8
    else:
        assert content == []
        assert "77777" not in server.log()
    assert not any("\n" in entry.get("trace_id", "") for entry in entries)


def test_failed_handshakes_do_not_fill_the_log(half_plus_two, tmp_path, certificate):
    chain, key = certificate
    serving_models.push(half_plus_two, tmp_path / "base", 1)
    tls = ("--tls_certificate", str(chain), "--tls_key", str(key))
    server = _Process(tmp_path / "base", tmp_path / "log", *tls)
    try:
        for port in (server.rest_port, server.grpc_port):
            for _ in range(30):
                _send(port, _HOSTILE.encode())
    finally:
        server.end()
    entries = server.entries()
    assert len(entries) < 10
    assert _SECRET not in server.log()


@pytest.mark.parametrize("api", ["REST", "gRPC"])
def test_a_fault_of_our_own_is_told_without_what_was_asked(
    half_plus_two, tmp_path, caplog, monkeypatch, api
):
    """An exception that nobody has thought of may have anything in its message."""

    def fail(*args, **kwargs):
        try:
            raise KeyError(_HOSTILE)
        except KeyError as e:
            raise RuntimeError(f"cannot use {_HOSTILE}") from e

    from serving import grpc_service, logs

    monkeypatch.setattr(codec, "parse_predict_document", fail)
    monkeypatch.setattr(grpc_service, "_decode", fail)
    serving_models.push(half_plus_two, tmp_path, 1)
    with RunningServer(model_base_path=str(tmp_path), model_name="m") as server:
        if api == "REST":
            response = server.http.post("/v1/models/m:predict", json={"instances": [1.0]})
            assert response.status_code == 500
        else:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            with grpc.insecure_channel(server.grpc_address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                with pytest.raises(grpc.RpcError) as e:
                    stub.Predict(request, timeout=LONG_SECONDS)
            assert e.value.code() == grpc.StatusCode.INTERNAL
    for with_content in (False, True):
        formatter = logs.JsonFormatter(with_content=with_content)
        entries = [json.loads(formatter.format(r)) for r in caplog.records]
        (failure,) = [entry for entry in entries if entry["event"] == "request failed"]
        assert (_SECRET in failure["exception"]) == with_content
        # Enough to find the fault.
        for part in ("RuntimeError", "KeyError", "in fail", "test_log_lines.py"):
            assert part in failure["exception"]
        (told,) = [entry for entry in entries if entry["event"] == "request"]
        assert told["error"] == "RuntimeError"
