"""A server that is asked to stop answers what it had begun, and takes nothing new."""

import concurrent.futures
import contextlib
import json
import socket

import httpx
import pytest

from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

_BODY = json.dumps({"inputs": {"x": [2.0]}}).encode()
_HEAD = (
    b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
)


@pytest.fixture(scope="module")
def base(half_plus_two, tmp_path_factory):
    path = tmp_path_factory.mktemp("served")
    serving_models.push(half_plus_two, path, 1)
    return path


class _Stopping:
    """A server that can be asked to stop while the test goes on."""

    def __init__(self, server):
        self._server = server
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self.stopped = None

    def begin(self):
        self.stopped = self._thread.submit(self._server.__exit__)
        wait_until(lambda: self._refuses() or self.stopped.done())

    def _refuses(self):
        with contextlib.closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self._server.server.rest_port)) != 0


@pytest.fixture
def start(base):
    """Starts a server; returns it and what stops it."""
    begun = []

    def begin(**config):
        server = RunningServer(model_base_path=str(base), model_name="m", **config)
        begun.append(_Stopping(server.__enter__()))
        wait_until(server.server.manager.is_ready)
        return server, begun[-1]

    yield begin
    for stopping in begun:
        if stopping.stopped is None:
            stopping.begin()
        stopping.stopped.result(LONG_SECONDS)


def _connect(server):
    return socket.create_connection(("127.0.0.1", server.server.rest_port), timeout=LONG_SECONDS)


def _read_response(connection):
    """The status line, the headers in lower case, the body, until the server closes."""
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *headers = head.decode().lower().split("\r\n")
    return status, dict(line.split(": ", 1) for line in headers if line), body


def test_a_request_whose_body_is_still_on_its_way_is_answered(start):
    server, stopping = start(drain_seconds=60.0)
    with _connect(server) as connection:
        connection.sendall(_HEAD + _BODY[:5])
        wait_until(lambda: server.metric("serving_requests_in_flight") == 1)
        stopping.begin()
        connection.sendall(_BODY[5:])
        status, headers, body = _read_response(connection)
    assert status == "http/1.1 200 ok"
    assert headers["connection"] == "close"
    assert json.loads(body) == {"outputs": [3.0]}
    stopping.stopped.result(LONG_SECONDS)
    served = {"model": "m", "api": "REST", "method": "predict"}
    assert server.metric("serving_requests_total", **served, code="OK") == 1
    assert server.metric("serving_requests_total", **served, code="CANCELLED") == 0


def test_a_request_that_never_ends_is_given_up(start):
    server, stopping = start(drain_seconds=0.5)
    with _connect(server) as connection:
        connection.sendall(_HEAD)
        wait_until(lambda: server.metric("serving_requests_in_flight") == 1)
        stopping.begin()
        assert _read_response(connection)[0] == ""
    stopping.stopped.result(LONG_SECONDS)
    served = {"model": "m", "api": "REST", "method": "predict"}
    assert server.metric("serving_requests_total", **served, code="CANCELLED") == 1


def test_an_idle_connection_does_not_hold_it(start):
    server, stopping = start(drain_seconds=600.0)
    with httpx.Client(base_url=server.url, timeout=LONG_SECONDS) as client:
        assert client.get("/ready").status_code == 200
        stopping.begin()
        stopping.stopped.result(LONG_SECONDS)
