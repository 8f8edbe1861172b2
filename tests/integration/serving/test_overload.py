"""A server that has too much to do says so at once, and does nothing for who has gone."""

import base64
import contextlib
import json
import socket
import struct

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.config import BatchingConfig
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

_ANNOUNCED = 50_000  # bytes of a body that does not arrive
_HEAD = (
    b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % _ANNOUNCED
)


def _server(half_plus_two, tmp_path_factory, **config):
    base = tmp_path_factory.mktemp("served")
    serving_models.push(half_plus_two, base, 1)
    return RunningServer(model_base_path=str(base), model_name="m", **config)


@pytest.fixture(scope="module", params=["max_requests_under_way", "max_bytes_under_way"])
def limited(request, half_plus_two, tmp_path_factory):
    """A server for which a request that is half sent is as much as it takes on."""
    limit = {"max_requests_under_way": 1, "max_bytes_under_way": _ANNOUNCED}[request.param]
    with _server(half_plus_two, tmp_path_factory, **{request.param: limit}) as running:
        wait_until(running.server.manager.is_ready)
        yield running, request.param


@contextlib.contextmanager
def _half_sent(server):
    """A request whose body does not arrive; the client goes away when the block ends."""
    with socket.create_connection(("127.0.0.1", server.server.rest_port)) as connection:
        connection.sendall(_HEAD + b'{"inputs"')
        wait_until(lambda: server.metric("serving_requests_in_flight") == 1)
        yield
        # A reset, as of a client that was killed.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: server.metric("serving_requests_in_flight") == 0)


def _over_rest(server):
    answer = server.http.post("/v1/models/m:predict", json={"inputs": {"x": [2.0]}})
    retry = answer.headers.get("Retry-After")
    return answer.status_code, answer.json().get("error", ""), retry


def _over_grpc(server):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([2.0], np.float32)))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            stub.Predict(request, timeout=LONG_SECONDS)
        except grpc.RpcError as e:
            return e.code().name, e.details(), dict(e.trailing_metadata())["grpc-retry-pushback-ms"]
    return "OK", "", None


@pytest.mark.parametrize(
    ("ask", "ok", "refused", "later"),
    [(_over_rest, 200, 503, "1"), (_over_grpc, "OK", "UNAVAILABLE", "1000")],
)
def test_what_is_too_much_is_refused_until_there_is_room(limited, ask, ok, refused, later):
    server, flag = limited
    reason = {"max_requests_under_way": "too_many_calls", "max_bytes_under_way": "memory"}[flag]
    before = server.metric("serving_refused_requests_total", reason=reason)
    with _half_sent(server):
        code, message, retry = ask(server)
        assert (code, retry) == (refused, later)
        assert flag in message
        # What is no predict request is answered all the same.
        assert server.http.get("/health").status_code == 200
        assert server.http.get("/v1/models/m").status_code == 200
    assert server.metric("serving_refused_requests_total", reason=reason) == before + 1
    assert ask(server)[0] == ok


def test_a_body_that_is_announced_too_large_is_refused_before_it_arrives(
    half_plus_two, tmp_path_factory
):
    with (
        _server(half_plus_two, tmp_path_factory, max_request_bytes=_ANNOUNCED - 1) as server,
        socket.create_connection(("127.0.0.1", server.server.rest_port)) as connection,
    ):
        connection.sendall(_HEAD)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_large_answers_come_whole_to_a_slow_reader(half_plus_two, tmp_path_factory):
    count = 100_000
    body = json.dumps({"inputs": {"x": [2.0] * count}}).encode()
    head = _HEAD.replace(str(_ANNOUNCED).encode(), str(len(body)).encode())
    with _server(half_plus_two, tmp_path_factory, max_request_rows=count) as server:
        wait_until(server.server.manager.is_ready)
        with socket.create_connection(("127.0.0.1", server.server.rest_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(head + body)
            answer = b""
            while not answer.endswith(b"}"):
                part = connection.recv(2048)
                assert part, answer[:1000]
                answer += part
        outputs = json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"]
        assert outputs == [3.0] * count
        wait_until(lambda: server.metric("serving_queued_bytes") == 0)


def test_who_leaves_while_an_answer_is_written_is_let_go(half_plus_two, tmp_path_factory):
    count = 900_000  # more than the buffers of both sides take
    body = json.dumps({"inputs": {"x": [2.1234567] * count}}).encode()
    head = _HEAD.replace(str(_ANNOUNCED).encode(), str(len(body)).encode())
    config = {"max_request_rows": count, "batching": BatchingConfig(enabled=False)}
    labels = {"model": "m", "api": "REST", "method": "predict", "code": "CANCELLED"}
    with _server(half_plus_two, tmp_path_factory, **config) as server:
        wait_until(server.server.manager.is_ready)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.server.rest_port))
            connection.sendall(head + body)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            assert server.metric("serving_queued_bytes") > len(body)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: server.metric("serving_requests_total", **labels) == 1)
        assert server.metric("serving_queued_bytes") == 0


def test_who_stays_and_never_reads_an_answer_is_cut_off(half_plus_two, tmp_path_factory):
    sent = base64.b64encode(bytes(8 * 2**20)).decode()  # more than the buffers of both sides take
    request = {"signature_name": "bytes", "inputs": {"image_bytes": [{"b64": sent}]}}
    body = json.dumps(request).encode()
    head = _HEAD.replace(str(_ANNOUNCED).encode(), str(len(body)).encode())
    labels = {"model": "m", "api": "REST", "method": "predict"}
    # Long enough for a busy machine to begin the answer.
    with _server(half_plus_two, tmp_path_factory, request_timeout_seconds=15.0) as server:
        wait_until(server.server.manager.is_ready)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(LONG_SECONDS)
            connection.connect(("127.0.0.1", server.server.rest_port))
            connection.sendall(head + body)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            assert server.metric("serving_queued_bytes") > len(sent)
            wait_until(lambda: server.metric("serving_queued_bytes") == 0)
            # It got a part of the answer, and no other answer behind it.
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    assert b"HTTP/1.1" not in part
                    received += len(part)
            assert received < len(sent)
        assert server.metric("serving_requests_total", **labels, code="CANCELLED") == 1
        assert server.metric("serving_requests_total", **labels, code="OK") == 0
