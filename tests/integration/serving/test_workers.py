"""Several processes behind the two ports of one server."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import grpc
import httpx
import numpy as np
import psutil
import pytest
import tensorflow as tf
from prometheus_client.openmetrics import parser
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.request_sample import read_samples
from tests import serving_models
from tests.running_server import LONG_SECONDS, wait_until
from tests.server_process import ServerProcess

_BODY = {"inputs": {"history": [["1", "2"]], "k": 3}}
_PATH = "/v1/models/m:predict"


@contextlib.contextmanager
def _serving(model, folder, *flags):
    """A server of two workers that are ready."""
    serving_models.push(model, folder / "base", 1)
    own = ("--model_base_path", str(folder / "base"), "--model_name", "m", "--workers", "2")
    with ServerProcess(folder / "log", *own, "--settle_seconds", "0", *flags) as server:
        wait_until(lambda: len(_listening(server)) == 2)
        wait_until(lambda: server.http.get("/ready").is_success)
        yield server


@pytest.fixture(scope="module")
def server(recommender, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    flags = ("--request_log_sample", "1", "--request_log_dir", str(folder / "samples"))
    with _serving(recommender, folder, "--log_requests", "all", *flags) as running:
        running.samples = folder / "samples"
        yield running


def _lines(server, event):
    entries = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == event]


def _listening(server):
    return [entry["worker"] for entry in _lines(server, "listening")]


def _ask(server, caller=""):
    """Asks on a connection of its own."""
    url = f"http://127.0.0.1:{server.rest_port}{_PATH}"
    response = httpx.post(url, json=_BODY, headers={"x-caller-key": caller}, timeout=LONG_SECONDS)
    return response.status_code


def _ask_grpc(server):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["history"].CopyFrom(tf.make_tensor_proto(np.array([["1", "2"]])))
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options) as channel:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)


def _metric(server, name, **labels):
    """The sum of a metric over all series that have ``labels``."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    total = 0.0
    for line in server.http.get("/metrics").text.splitlines():
        match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if match and wanted <= set((match[1] or "").split(",")):
            total += float(match[2])
    return total


def _workers(server):
    return psutil.Process(server.process.pid).children()


def test_all_workers_answer_and_count_together(server):
    before = _metric(server, "serving_requests_total", code="OK")
    # Of a connection, the kernel chooses the worker: by then both have had some.
    rest = 0
    while {e["worker"] for e in _lines(server, "request") if e["api"] == "REST"} != {0, 1}:
        assert _ask(server) == 200
        rest += 1
    calls = 0
    while {e["worker"] for e in _lines(server, "request") if e["api"] == "gRPC"} != {0, 1}:
        _ask_grpc(server)
        calls += 1
    assert _metric(server, "serving_requests_total", code="OK", api="REST") - before == rest
    assert _metric(server, "serving_requests_total", code="OK", api="gRPC") == calls
    name = ":tensorflow:serving:request_count"
    assert _metric(server, name, model_name="m", status="OK") == rest + calls
    assert _metric(server, "serving_model_version_available", model="m", version="1") == 1
    assert _metric(server, "serving_model_loads_total", model="m", outcome="success") == 2
    assert _metric(server, "serving_requests_in_flight") == 0
    page = server.http.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
    families = {family.name for family in parser.text_string_to_metric_families(page)}
    assert {"serving_requests", "serving_worker_restarts", name} <= families
    for worker in (0, 1):
        assert _metric(server, "serving_worker_ready", worker=worker) == 1
        assert _metric(server, "process_resident_memory_bytes", worker=worker) > 2**20


def test_the_supervisor_has_no_tensorflow(server):
    libraries = {mapped.path for mapped in psutil.Process(server.process.pid).memory_maps()}
    assert not [path for path in libraries if "tensorflow" in path]
    assert [m for m in _workers(server)[0].memory_maps() if "tensorflow" in m.path]


def test_samples_of_all_workers_are_read_together(server):
    asked = 0
    while len({e["worker"] for e in _lines(server, "request")[-asked:]} if asked else ()) < 2:
        assert _ask(server, caller="somebody") == 200
        asked += 1
    folders = [server.samples / f"worker-{number}" for number in (0, 1)]

    def written():
        samples, _ = read_samples(server.samples, 1000)
        return [sample for sample in samples if sample.caller]

    wait_until(lambda: len(written()) == asked)
    # Who a caller is does not depend on who answered.
    assert len({sample.caller for sample in written()}) == 1
    assert all(read_samples(folder, 1)[0] for folder in folders)


def test_a_worker_that_dies_is_started_again(server):
    counted = _metric(server, "serving_requests_total", code="OK", method="predict")
    killed = _workers(server)[0]
    killed.kill()
    wait_until(lambda: _lines(server, "worker ended"))
    (ended,) = _lines(server, "worker ended")
    assert (ended["pid"], ended["exit_code"]) == (killed.pid, -signal.SIGKILL)
    # Meanwhile the other one serves, and what was counted stays.
    server.http.close()
    server.http = httpx.Client(base_url=server.http.base_url, timeout=LONG_SECONDS)
    assert server.http.get("/ready").status_code == 200
    answers = [_ask(server)]
    wait_until(lambda: answers.append(_ask(server)) or len(_listening(server)) == 3)
    # The new one answers with a model from its first request on.
    while _lines(server, "request")[-1]["worker"] != ended["worker"]:
        answers.append(_ask(server))
    assert set(answers) == {200}
    asked = len(answers)
    assert _metric(server, "serving_requests_total", code="OK", method="predict") == counted + asked
    assert _metric(server, "serving_worker_restarts_total", worker=ended["worker"]) == 1
    assert _metric(server, "serving_worker_restarts_total") == 1


def test_a_second_server_on_the_port_is_refused(server, tmp_path):
    flags = ("--model_base_path", str(tmp_path), "--grpc_port", "0")
    for workers in ("1", "2"):
        command = [sys.executable, "-m", "serving.server", *flags, "--workers", workers]
        done = subprocess.run(
            [*command, "--rest_port", str(server.rest_port)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert str(server.rest_port) in done.stderr


def test_asked_to_stop_all_workers_end_what_they_began(half_plus_two, tmp_path):
    body = json.dumps({"inputs": {"x": [2.0]}}).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with _serving(half_plus_two, tmp_path, "--drain_seconds", "300") as server:
        workers = _workers(server)
        with contextlib.ExitStack() as stack:
            connections = []
            for _ in range(8):
                connection = socket.create_connection(("127.0.0.1", server.rest_port))
                connections.append(stack.enter_context(connection))
                connection.settimeout(LONG_SECONDS)
                connection.sendall(head.encode() + body[:5])
            wait_until(lambda: _metric(server, "serving_requests_in_flight") == 8)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: _refuses(server.rest_port))
            for connection in connections:
                connection.sendall(body[5:])
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                assert answer.startswith(b"HTTP/1.1 200"), answer
        assert server.process.wait(LONG_SECONDS) == 0
        assert sorted(entry["worker"] for entry in _lines(server, "stopped")) == [0, 1]
        assert not any(worker.is_running() for worker in workers)


def _refuses(port):
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
def test_workers_end_with_their_supervisor(half_plus_two, tmp_path):
    with _serving(half_plus_two, tmp_path) as server:
        workers = _workers(server)
        server.kill()
        wait_until(lambda: not any(worker.is_running() for worker in workers))
        assert sorted(entry["worker"] for entry in _lines(server, "stopped")) == [0, 1]


@pytest.mark.slow
def test_what_no_worker_can_use_ends_the_server(tmp_path):
    missing = ("--tls_certificate", str(tmp_path / "absent.pem"), "--tls_key", "absent.pem")
    flags = ("--model_base_path", str(tmp_path), "--workers", "2", *missing)
    done = subprocess.run(
        [sys.executable, "-m", "serving.server", *flags, "--rest_port", "0", "--grpc_port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 1
    assert "absent.pem" in done.stderr
