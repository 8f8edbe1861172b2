"""Workers of a distributed training as processes of this machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT_SECONDS = 900


def cluster(size: int) -> list[dict[str, Any]]:
    """``TF_CONFIG`` of each of ``size`` workers, on free ports of this machine."""
    sockets = [socket.socket() for _ in range(size)]
    for s in sockets:
        s.bind(("localhost", 0))
    workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return [
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        for index in range(size)
    ]


def start(
    script: Path, *arguments: object, tf_config: Mapping[str, Any] | None = None
) -> subprocess.Popen:
    """Starts ``script`` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Waits for a process that must succeed; returns its output."""
    output, errors = process.communicate(timeout=_TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    return output
