"""A ModelServer on an event loop of its own thread, for tests that call it."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from serving.config import ServerConfig
from serving.model_server import ModelServer

# Nothing takes as long, on however busy a machine: what hangs fails after it.
LONG_SECONDS = 600.0


class RunningServer:
    """Context manager: a started server on free ports of the loopback.

    Attributes:
      server: The server itself.
      url: Where its REST port is.
      grpc_address: Host and port of gRPC.
      http: A client of the REST port; without TLS only.
    """

    def __init__(self, **config: Any):
        defaults = {
            "rest_port": 0,
            "grpc_port": 0,
            "settle_seconds": 0.0,
            "drain_seconds": 2.0,
            "request_timeout_seconds": LONG_SECONDS,
            # Tests load many versions and ask them little.
            "graph_optimization": False,
        }
        self.config = ServerConfig(**{**defaults, **config})
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "RunningServer":
        self._thread.start()
        self.server = self.call(self._make())
        self.call(self.server.start())
        scheme = "https" if self.config.tls_certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server.rest_port}"
        self.grpc_address = f"127.0.0.1:{self.server.grpc_port}"
        self.http = httpx.Client(base_url=self.url, timeout=LONG_SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.close()
        self.call(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, coroutine: Any) -> Any:
        """Runs a coroutine on the server's loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LONG_SECONDS)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it has none yet."""
        return self.server.metrics.registry.get_sample_value(name, labels) or 0.0

    async def _make(self) -> ModelServer:
        return ModelServer(self.config)


def wait_until(condition: Callable[[], bool], seconds: float = LONG_SECONDS) -> None:
    """Waits for a condition that other threads bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
