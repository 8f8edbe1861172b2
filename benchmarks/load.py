"""A light load generator for one endpoint: sends encoded requests, but does not decode answers.

Each load runs in its own process (``start``), so that loads at the same time do not share Python's
global interpreter lock. A closed loop sends a connection's next request once the last one is
answered. An open loop sends at a given rate regardless of the answers, and the latency of a request
that starts late counts from when it was due.
"""

import asyncio
import base64
import collections
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np

PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
_TIMEOUT_SECONDS = 60.0
_OK = "200"

_Send = Callable[[], Awaitable[str]]


@dataclasses.dataclass(frozen=True)
class Load:
    """The requests to send.

    Attributes:
      api: ``rest`` or ``grpc``.
      port: Port of the endpoint on the loopback interface.
      request: The encoded request: the body for ``rest``, the message for ``grpc``.
      connections: Number of connections; each has one request at a time.
      seconds: How long requests are sent.
      rate: Requests per second of an open loop, over all connections; 0 for a closed loop.
      method: HTTP method.
      path: HTTP path.
      pause: Seconds that a connection of a closed loop waits after an answer.
      pause_refused: Mean of the seconds that a connection of a closed loop waits after any answer
        but 200, as a client that heeds Retry-After does. Each pause is drawn between half and one
        and a half of it. 0 means ``pause``.
    """

    api: str
    port: int
    request: bytes
    connections: int
    seconds: float
    rate: float = 0.0
    method: str = "POST"
    path: str = "/v1/models/mind:predict"
    pause: float = 0.0
    pause_refused: float = 0.0


def start(load: Load) -> "subprocess.Popen[str]":
    """Starts a load in its own process; ``result`` waits for its end."""
    spec = {**dataclasses.asdict(load), "request": base64.b64encode(load.request).decode()}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", json.dumps(spec)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Waits for a load to end and returns its figures.

    Returns:
      ``rate``, the answers of status 200 per second; ``p50_ms``, ``p95_ms`` and ``p99_ms``, their
      latencies; ``refused_p50_ms``, ``refused_p95_ms`` and ``refused_p99_ms``, those of all other
      answers; and ``statuses``, the number of answers by status. A gRPC answer without an error
      has status 200. Latencies are NaN where there are no answers.

    Raises:
      RuntimeError: if the load generator fails.
    """
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return json.loads(output.splitlines()[-1])


def measure(load: Load) -> dict[str, Any]:
    """Runs a load to its end and returns its figures; see ``result``."""
    return result(start(load))


class _Http(asyncio.Protocol):
    """One keep-alive connection, whose answers must have a Content-Length."""

    def __init__(self, request: bytes):
        self._request = request
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end("closed")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) >= length:
            status = head[9:12].decode()
            self._buffer.clear()
            self._end(status)

    def send(self) -> "asyncio.Future[str]":
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._end("closed")
        else:
            self._transport.write(self._request)
        return self._answer

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def _end(self, status: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)


async def _connect(load: Load) -> _Send:
    if load.api == "grpc":
        # By default the channels of a process share a connection, which different clients do not.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{load.port}", options)
        call = channel.unary_unary(PREDICT_METHOD)
        await channel.channel_ready()

        async def ask() -> str:
            try:
                await call(load.request, timeout=_TIMEOUT_SECONDS)
            except grpc.RpcError as e:
                return e.code().name
            return _OK

        return ask
    head = (
        f"{load.method} {load.path} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(load.request)}\r\n\r\n"
    )
    request = head.encode() + load.request
    loop = asyncio.get_running_loop()

    async def connected() -> _Http:
        _, http = await loop.create_connection(lambda: _Http(request), "127.0.0.1", load.port)
        return http

    http = await connected()

    async def send() -> str:
        nonlocal http
        if not http.is_open:
            http = await connected()
        return await asyncio.wait_for(http.send(), _TIMEOUT_SECONDS)

    return send


async def _run(load: Load) -> dict[str, Any]:
    senders = [await _connect(load) for _ in range(load.connections)]
    for send in senders[:8]:
        await send()
    times: list[tuple[float, str]] = []
    started = time.perf_counter()
    until = started + load.seconds

    async def ask(send: _Send, due: float) -> str:
        status = await send()
        times.append((time.perf_counter() - due, status))
        return status

    async def closed(send: _Send) -> None:
        while (now := time.perf_counter()) < until:
            status = await ask(send, now)
            if status != _OK and load.pause_refused:
                await asyncio.sleep(load.pause_refused * random.uniform(0.5, 1.5))
            elif load.pause:
                await asyncio.sleep(load.pause)

    async def opened(send: _Send, due_times: "collections.deque[float]") -> None:
        while due_times:
            due = due_times.popleft()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await ask(send, due)

    if load.rate:
        generator, due, due_times = random.Random(0), started, collections.deque[float]()
        while (due := due + generator.expovariate(load.rate)) < until:
            due_times.append(due)
        await asyncio.gather(*(opened(send, due_times) for send in senders))
    else:
        await asyncio.gather(*(closed(send) for send in senders))
    elapsed = time.perf_counter() - started
    answered = [seconds for seconds, status in times if status == _OK]
    refused = [seconds for seconds, status in times if status != _OK]
    figures: dict[str, Any] = {"rate": round(len(answered) / elapsed, 1)}
    for name, part in (("", answered), ("refused_", refused)):
        for quantile in (50, 95, 99):
            value = float(np.percentile(part, quantile)) * 1e3 if part else float("nan")
            figures[f"{name}p{quantile}_ms"] = round(value, 2)
    return figures | {"statuses": collections.Counter(status for _, status in times)}


def main() -> None:
    """Runs the load that the command line describes, and prints the figures as JSON."""
    spec = json.loads(sys.argv[1])
    spec["request"] = base64.b64decode(spec["request"])
    print(json.dumps(asyncio.run(_run(Load(**spec)))))


if __name__ == "__main__":
    main()
