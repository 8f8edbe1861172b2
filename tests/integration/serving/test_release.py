"""A canary in a running server: who is asked, and how a bad one goes back by itself."""

import threading

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from contract import release_file
from serving import release
from serving.canary import is_routed_to_canary
from serving.client import Client
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

_BODY = {"inputs": {"history": [["x"]]}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saved models that always answer with one item, or with none, or not at all."""
    folder = tmp_path_factory.mktemp("saved")
    for name, item, is_broken in (
        ("one", "one", False),
        ("two", "two", False),
        ("broken", "", True),
        ("empty", "", False),
    ):
        serving_models.save_constant(folder / name, item, is_broken=is_broken)
    return folder


@pytest.fixture
def base(tmp_path, saved):
    serving_models.push(saved / "one", tmp_path / "base", 1)
    return tmp_path / "base"


def _serving(base):
    return RunningServer(
        model_base_path=str(base), model_name="m", file_system_poll_wait_seconds=0.05
    )


def _command(base, *words):
    assert release.main([words[0], "--model_base_path", str(base), *words[1:]]) == 0


def _ask(http, key="", path="/v1/models/m:predict"):
    headers = {"X-Caller-Key": key} if key else {}
    response = http.post(path, json=_BODY, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()["outputs"][0][0]


def _has_canary(server, label="canary"):
    return server.http.get(f"/v1/models/m/labels/{label}").status_code == 200


def test_a_key_decides_over_rest_and_grpc_alike(base, saved):
    serving_models.push(saved / "two", base, 2)
    _command(base, "promote", "2", "--canary", "0.3")
    keys = [f"person {n}" for n in range(40)]
    expected = {key: "two" if is_routed_to_canary(key, "m", 2, 0.3) else "one" for key in keys}
    assert set(expected.values()) == {"one", "two"}
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["history"].CopyFrom(tf.make_tensor_proto(np.array([["x"]])))
    with _serving(base) as server, grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for _ in range(2):
            assert {key: _ask(server.http, key) for key in keys} == expected
        for key in keys:
            answer = stub.Predict(request, metadata=[("x-caller-key", key)])
            assert answer.outputs["item_ids"].string_val == [expected[key].encode()]
            assert answer.model_spec.version.value == (2 if expected[key] == "two" else 1)
        for url in (server.url, f"grpc://{server.grpc_address}"):
            for key in keys[:6]:
                with Client(url, "m", caller_key=key, timeout_seconds=LONG_SECONDS) as client:
                    found = client.predict("serving_default", {"history": [["x"]]})["item_ids"]
                assert found.tolist() == [[expected[key]]]
        # A label or a version that is named is what answers, whatever the key.
        for label, answer in (("stable", "one"), ("canary", "two")):
            path = f"/v1/models/m/labels/{label}:predict"
            assert {_ask(server.http, key, path) for key in keys[:5]} == {answer}
            request.model_spec.version_label = label
            outputs = stub.Predict(request, metadata=[("x-caller-key", keys[0])]).outputs
            assert outputs["item_ids"].string_val == [answer.encode()]
        asked = [*keys, *keys, *keys, *keys[:6], *keys[:6]]
        canaries = sum(expected[key] == "two" for key in asked)
        labels = {"model": "m", "label": "canary", "code": "OK"}
        assert server.metric("serving_release_requests_total", **labels) == canaries + 6
        # The whole traffic once it is promoted.
        _command(base, "promote", "2")
        wait_until(lambda: not _has_canary(server))
        assert {_ask(server.http, key) for key in keys} == {"two"}


class _Load:
    """Threads that ask without pause, each for many callers, and note what they get."""

    def __init__(self, server):
        self._url = server.url
        self._stop = threading.Event()
        self.answers = []
        self.problems = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        asked = 0
        with httpx.Client(base_url=self._url, timeout=LONG_SECONDS) as http:
            while not self._stop.is_set():
                asked += 1
                try:
                    self.answers.append(_ask(http, f"person {number} {asked}"))
                except Exception as e:
                    self.problems.append(repr(e))


@pytest.mark.parametrize(
    ("fault", "cause", "reason"),
    [
        ("broken", "errors", "100.0% of"),
        ("empty", "empty_answers", "answered without an item"),
    ],
)
def test_a_bad_canary_goes_back_by_itself_and_stays_back(base, saved, fault, cause, reason):
    serving_models.push(saved / fault, base, 2)
    _command(base, "promote", "2", "--canary", "0.5", "--min_requests", "30")
    with _serving(base) as server:
        assert _has_canary(server)
        with _Load(server) as load:
            wait_until(lambda: release_file.read(base).withdrawn)
            wait_until(lambda: not _has_canary(server))
            after = len(load.answers)
            wait_until(lambda: len(load.answers) > after + 20)
        assert load.problems == []
        assert set(load.answers) == {"one"}
        assert server.metric("serving_canary_rollbacks_total", model="m", cause=cause) == 1
    state = release_file.read(base)
    assert reason in state.withdrawn[2].reason
    assert (state.canary, state.stable) == (None, None)
    with _serving(base) as server:
        assert _has_canary(server, "stable")
        assert not _has_canary(server)
        states = server.http.get("/v1/models/m").json()["model_version_status"]
        assert [(s["version"], s["state"]) for s in states] == [("1", "AVAILABLE")]
        assert {_ask(server.http, f"person {n}") for n in range(10)} == {"one"}
