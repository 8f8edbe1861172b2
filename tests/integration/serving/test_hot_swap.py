"""Versions come and go under load: nothing fails, nothing mixes, nothing leaks."""

import contextlib
import os
import re
import shutil
import statistics
import threading

import grpc
import httpx
import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import release
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until
from tests.server_process import ServerProcess

SWAPS = 10
BALLAST = 16 * 2**20  # what one leaked version would cost


@contextlib.contextmanager
def _process(base, log):
    flags = ("--model_base_path", str(base), "--model_name", "m", "--settle_seconds", "0")
    with ServerProcess(log, *flags, "--file_system_poll_wait_seconds", "0.05") as server:
        yield server


def _serves(server, version):
    wait_until(lambda: server.available("m") == [version])


class _Load:
    """Threads that ask for ``version`` without pause and check each answer."""

    def __init__(self, server, *, over_grpc=True):
        self._server = server
        self._stop = threading.Event()
        self.answers = 0
        self.problems = []
        self.versions = set()
        targets = [self._rest, self._rest, *([self._grpc] if over_grpc else ())]
        self._threads = [threading.Thread(target=target) for target in targets]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _rest(self):
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self._server.rest_port}", timeout=LONG_SECONDS
        ) as http:
            body = {"signature_name": "version", "inputs": {"x": [0, 0]}}
            while not self._stop.is_set():
                try:
                    response = http.post("/v1/models/m:predict", json=body)
                    outputs = response.json()["outputs"]
                    self._check({*outputs["first"], *outputs["second"]})
                except Exception as e:
                    self.problems.append(repr(e))

    def _grpc(self):
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            request.model_spec.signature_name = "version"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(2, np.float32)))
            while not self._stop.is_set():
                try:
                    response = stub.Predict(request)
                    outputs = [tf.make_ndarray(v) for v in response.outputs.values()]
                    version = response.model_spec.version.value
                    self._check({float(version), *np.concatenate(outputs).tolist()})
                except Exception as e:
                    self.problems.append(repr(e))

    def _check(self, versions):
        self.answers += 1
        self.versions |= versions
        if len(versions) != 1:
            self.problems.append(f"an answer mixes versions {versions}")


def test_swaps_under_load(tmp_path):
    base, saved = tmp_path / "base", tmp_path / "saved"
    serving_models.save_half_plus_two(saved, ballast_bytes=BALLAST)

    def push(version):
        copy = tmp_path / "copy"
        serving_models.copy_with_half(saved, copy, float(version))
        serving_models.push(copy, base, version)
        shutil.rmtree(copy)

    push(1)
    with _process(base, tmp_path / "log") as server:
        _serves(server, 1)
        memory = {}
        with _Load(server) as load:
            for version in range(2, SWAPS + 2):
                push(version)
                _serves(server, version)
                wait_until(lambda version=version: float(version) in load.versions)
                shutil.rmtree(base / str(version - 1))
                memory[version] = psutil.Process(server.process.pid).memory_info().rss
            # Nor does a request fail when the newest version is rolled back, and promoted again.
            push(SWAPS + 2)
            _serves(server, SWAPS + 2)
            wait_until(lambda: float(SWAPS + 2) in load.versions)
            for command, version in (
                (("rollback",), SWAPS + 1),
                (("promote", str(SWAPS + 2)), SWAPS + 2),
            ):
                assert release.main([*command, "--model_base_path", str(base)]) == 0
                _serves(server, version)
                load.answers = 0
                wait_until(lambda: load.answers > 20)
        assert load.problems == []
        assert load.versions == set(range(1, SWAPS + 3))
        # The first swaps fill allocators' caches; after them, no growth. A single reading may fall
        # into the moment in which two versions are in memory.
        early = max(memory[version] for version in (4, 5, 6))
        late = min(memory[version] for version in range(SWAPS - 1, SWAPS + 2))
        assert late - early < 3 * BALLAST

        # TensorFlow's own log would write the value as it is.
        forged = {"signature_name": "number", "inputs": ["x\nforged"]}
        assert server.http.post("/v1/models/m:predict", json=forged).status_code == 400

        # Asked to stop under load, it ends what it began and leaves in peace.
        with _Load(server) as load:
            wait_until(lambda: load.answers > 20)
            assert server.terminate() == 0
        # gRPC itself cancels calls that have arrived and not reached a handler; one that
        # a handler had begun would be in the log.
        gone = re.compile("refused|reset|disconnected|UNAVAILABLE|CANCELLED", re.IGNORECASE)
        assert [problem for problem in load.problems if not gone.search(problem)] == []
        log = server.log()
        assert [line for line in log.splitlines() if line.startswith("forged")] == []
        assert '"code": "CANCELLED"' not in log
        assert '"event": "stopped"' in log


@pytest.mark.slow
def test_two_hundred_swaps_leave_memory_and_descriptors_as_they_were(tmp_path):
    base, saved = tmp_path / "base", tmp_path / "saved"
    serving_models.save_half_plus_two(saved, half=1.0, ballast_bytes=BALLAST)
    base.mkdir()

    def push(version):
        staging = base / f".staging-{version}"
        shutil.copytree(saved, staging, copy_function=os.link)
        staging.rename(base / str(version))

    push(1)
    with _process(base, tmp_path / "log") as server:
        _serves(server, 1)
        process = psutil.Process(server.process.pid)
        memory, descriptors = [], []
        with _Load(server, over_grpc=False) as load:
            for version in range(2, 202):
                push(version)
                _serves(server, version)
                load.answers = 0
                wait_until(lambda: load.answers > 5)
                shutil.rmtree(base / str(version - 1))
                memory.append(process.memory_info().rss)
                descriptors.append(process.num_fds())
    assert load.problems == []
    early, late = statistics.median(memory[20:40]), statistics.median(memory[-20:])
    figures = [round(statistics.median(memory[i : i + 20]) / 2**20) for i in range(0, 200, 20)]
    print(f"medians of 20 swaps, MiB: {figures}")
    assert late < 1.05 * early, figures
    assert statistics.median(descriptors[-20:]) <= statistics.median(descriptors[20:40])


@contextlib.contextmanager
def _serving(base, **config):
    with RunningServer(
        model_base_path=str(base),
        model_name="m",
        file_system_poll_wait_seconds=0.05,
        **config,
    ) as server:
        yield server


def _states(server):
    body = server.http.get("/v1/models/m").json()
    return {int(s["version"]): s for s in body.get("model_version_status", [])}


def _answer(server):
    body = {"signature_name": "version", "inputs": {"x": [0]}}
    response = server.http.post("/v1/models/m:predict", json=body)
    return response.json()["outputs"]["first"] if response.is_success else response.status_code


@pytest.fixture(scope="module")
def saved(half_plus_two, tmp_path_factory):
    """Saved models by version; their answer is the version."""
    folder = tmp_path_factory.mktemp("saved")
    paths = {version: folder / str(version) for version in (1, 2, 3)}
    for version, path in paths.items():
        serving_models.copy_with_half(half_plus_two, path, float(version))
    return paths


def test_a_corrupt_version_is_never_served(saved, tmp_path):
    serving_models.push(saved[1], tmp_path, 1)
    broken = tmp_path / ".broken"
    shutil.copytree(saved[2], broken)
    next((broken / "variables").glob("*.data*")).write_bytes(b"garbage")
    with _serving(tmp_path) as server:
        broken.rename(tmp_path / "2")
        wait_until(lambda: 2 in _states(server))
        wait_until(lambda: _states(server)[2]["state"] == "END")
        status = _states(server)[2]["status"]
        assert status["error_code"] == "INVALID_ARGUMENT"
        assert "does not load as a SavedModel" in status["error_message"]
        assert _states(server)[1]["state"] == "AVAILABLE"
        assert _answer(server) == [1.0]
        assert server.metric("serving_model_loads_total", model="m", outcome="failure") == 1
        # A good version after it is served; repairing the bad one is noticed.
        shutil.rmtree(tmp_path / "2")
        serving_models.push(saved[2], tmp_path, 2)
        wait_until(lambda: _answer(server) == [2.0])
    # After a restart, too, the corrupt newest version is passed over.
    next((tmp_path / "2" / "variables").glob("*.data*")).write_bytes(b"garbage")
    with _serving(tmp_path) as server:
        assert _answer(server) == [1.0]


def test_directories_without_a_model_are_left_alone(saved, tmp_path):
    (tmp_path / "5").mkdir()
    (tmp_path / "6" / "variables").mkdir(parents=True)
    with _serving(tmp_path) as server:
        assert server.http.get("/ready").status_code == 503
        assert _answer(server) == 404
        serving_models.push(saved[1], tmp_path, 1)
        wait_until(lambda: _answer(server) == [1.0])
        assert server.http.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("latest { num_versions: 2 }", {2, 3}),
        ("all { }", {1, 2, 3}),
        ("specific { versions: 1 versions: 3 }", {1, 3}),
    ],
)
def test_version_policies(saved, tmp_path, policy, expected):
    for version, path in saved.items():
        serving_models.push(path, tmp_path / "base", version)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/base"'
        f" model_version_policy {{ {policy} }} }} }}"
    )
    with RunningServer(model_config_file=str(config)) as server:
        assert {v for v, s in _states(server).items() if s["state"] == "AVAILABLE"} == expected
        for version in saved:
            response = server.http.post(
                f"/v1/models/m/versions/{version}:predict",
                json={"signature_name": "version", "inputs": {"x": [0]}},
            )
            assert response.status_code == (200 if version in expected else 404)


def test_a_version_is_unloaded_only_after_its_last_request(saved, tmp_path):
    serving_models.push(saved[1], tmp_path, 1)
    with _serving(tmp_path) as server:
        manager = server.server.manager
        spec = predict_pb2.PredictRequest().model_spec
        spec.name = "m"

        async def hold():
            held = manager.get(spec).hold()
            held.__enter__()
            return held

        held = server.call(hold())
        serving_models.push(saved[2], tmp_path, 2)
        wait_until(lambda: _answer(server) == [2.0])
        assert _states(server)[1]["state"] == "UNLOADING"

        async def release():
            held.__exit__(None, None, None)

        server.call(release())
        wait_until(lambda: _states(server)[1]["state"] == "END")
