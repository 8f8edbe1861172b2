"""The server as people start it: a process of its own, for tests that need one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.running_server import LONG_SECONDS, wait_until

_ROOT = Path(__file__).resolve().parents[1]


class ServerProcess:
    """Context manager: a server on free ports of the loopback, which listens.

    Attributes:
      process: The process that was started.
      rest_port: Of REST.
      grpc_port: Of gRPC.
      http: A client of the REST port.
    """

    def __init__(self, log: Path, *flags: str, environment: Mapping[str, str] = os.environ):
        """Starts it.

        Args:
          log: File for what it writes.
          *flags: Of its command line.
          environment: Its environment variables.
        """
        self._log = log
        command = [sys.executable, "-m", "serving.server"]
        ports = ["--rest_port", "0", "--grpc_port", "0"]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *ports, *flags],
                stderr=file,
                # As people have it; the tests themselves silence TensorFlow's own log.
                env={k: v for k, v in environment.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
                cwd=_ROOT,
            )

    def __enter__(self) -> "ServerProcess":
        try:
            # Importing TensorFlow can take minutes on a busy machine.
            wait_until(lambda: self._listens() or self.process.poll() is not None, LONG_SECONDS)
            found = self._listens()
            assert found, f"the server ended with {self.process.returncode}: {self.log()}"
        except BaseException:
            self.kill()
            raise
        self.rest_port, self.grpc_port = int(found[1]), int(found[2])
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.rest_port}", timeout=LONG_SECONDS
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()
        self.kill()

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def terminate(self) -> int:
        """Asks it to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG_SECONDS)

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait()

    def available(self, model: str) -> list[int]:
        """The versions of a model that serve."""
        states = self.http.get(f"/v1/models/{model}").json().get("model_version_status", [])
        return [int(s["version"]) for s in states if s["state"] == "AVAILABLE"]

    def _listens(self) -> re.Match[str] | None:
        return re.search(r'"rest_port": (\d+), "grpc_port": (\d+)', self.log())
