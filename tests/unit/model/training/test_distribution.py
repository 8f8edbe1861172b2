"""Two replicas, in one process or in two, train the model that one trains."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_ROOT = Path(__file__).resolve().parents[3]
_WORKER = Path(__file__).with_name("worker.py")


def _start(distribution, directory, output, tf_config=None):
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    command = [sys.executable, str(_WORKER), distribution, str(directory), str(output)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _wait(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def _free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.mark.slow
def test_two_replicas_equal_one(tmp_path):
    _wait(_start("none", tmp_path / "one", tmp_path / "one.npz"))
    _wait(_start("mirrored", tmp_path / "mirrored", tmp_path / "mirrored.npz"))
    cluster = {"worker": [f"localhost:{port}" for port in _free_ports(2)]}
    workers = [
        _start(
            "multi_worker_mirrored", tmp_path / "multi", tmp_path / f"worker_{i}.npz",
            {"cluster": cluster, "task": {"type": "worker", "index": i}},
        )
        for i in range(2)
    ]  # fmt: skip
    for worker in workers:
        _wait(worker)
    expected = dict(np.load(tmp_path / "one.npz"))
    assert expected.pop("replicas") == 1
    for name in ("mirrored", "worker_0", "worker_1"):
        weights = dict(np.load(tmp_path / f"{name}.npz"))
        assert weights.pop("replicas") == 2
        for key, value in expected.items():
            np.testing.assert_allclose(weights[key], value, atol=1e-4, err_msg=f"{name} {key}")
