"""Runs several processes that serve on the same two ports, under one supervisor.

TensorFlow does not survive a fork, so every worker is a new process, and the supervisor does not
import TensorFlow. All workers listen on the same ports (SO_REUSEPORT): the kernel gives each new
connection to one of them. Workers learn of each other through the ``Board`` and the files of their
metrics.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import multiprocess

from contract.config_types import config_dataclass, to_json
from serving.config import ServerConfig
from serving.worker_board import Board, State, worker_folder

_log = logging.getLogger(__name__)

BOARD_FILE = "board"
# prometheus_client reads this variable when it is imported.
METRICS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Exit code of a worker that cannot use its configuration.
CANNOT_SERVE = os.EX_CONFIG

# Pause before a worker is restarted: it doubles each time, up to the second value, and returns to
# the first for a worker that has run for longer than the second.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# Time in addition to drain_seconds before a worker that does not end is killed.
_ENDING_SECONDS = 15.0
_KEPT_BYTES = 2**20  # the smallest request_log_max_bytes


@config_dataclass
class Orders:
    """Orders for a worker, as JSON on its standard input.

    Attributes:
      config: The worker's configuration.
      worker: The worker's number, from 0.
      folder: Folder that all workers of the server share.
      listens_first: See ``Worker``.
    """

    config: ServerConfig
    worker: int
    folder: str
    listens_first: bool


def run(config: ServerConfig) -> int:
    """Serves with ``config.workers`` processes until SIGINT or SIGTERM; returns the exit code."""
    try:
        with _ports_reserved(config) as chosen, tempfile.TemporaryDirectory() as folder:
            return asyncio.run(_Supervisor(chosen, folder).run())
    except OSError as e:
        _log.error("cannot serve", extra={"error": str(e)})
        return 1


class _Supervisor:
    """Starts workers, restarts those that end, and finally stops them all.

    Args:
      config: Configuration of the server as a whole, with the ports in use.
      folder: Folder that the workers share; only this server uses it.
    """

    def __init__(self, config: ServerConfig, folder: str):
        self._config = config
        self._folder = folder
        self._board = Board(Path(folder, BOARD_FILE), config.workers)
        self._stop = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        _log.info("starting workers", extra={"workers": self._config.workers})
        await asyncio.gather(*(self._keep(worker) for worker in range(self._config.workers)))
        _log.info("workers stopped")
        return self._exit_code

    async def _keep(self, worker: int) -> None:
        """Keeps one worker running until the server stops."""
        pause, is_first = _FIRST_PAUSE_SECONDS, True
        while not self._stop.is_set():
            began = time.monotonic()
            process = await self._start(worker, is_first=is_first)
            code = await self._ended(process)
            self._board.set_pid(worker, 0)
            self._board.set_state(worker, State.ABSENT)
            multiprocess.mark_process_dead(worker, self._folder)
            if self._stop.is_set():
                return
            if is_first and code == CANNOT_SERVE:  # the others cannot either; it has logged why
                self._exit_code = 1
                self._stop.set()
                return
            is_first = False
            if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            _log.error(
                "worker ended",
                extra={
                    "worker": worker,
                    "pid": process.pid,
                    "exit_code": code,
                    "error": f"it will be restarted in {pause:g} seconds",
                },
            )
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _start(self, worker: int, *, is_first: bool) -> Process:
        if not is_first:
            self._board.count_restart(worker)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving.worker"),
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, METRICS_DIR_VARIABLE: self._folder},
            # Ctrl-C reaches the worker once, through the supervisor.
            start_new_session=True,
        )
        self._board.set_pid(worker, process.pid)
        orders = Orders(
            config=_config_of(self._config, worker),
            worker=worker,
            folder=self._folder,
            # A worker that starts later than the others listens only once it can answer.
            listens_first=is_first,
        )
        assert process.stdin is not None
        # Never closed explicitly: it closes when this process ends, which notifies the worker.
        process.stdin.write(to_json(orders).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        return process

    async def _ended(self, process: Process) -> int:
        """Waits for a worker to end, and makes it end when the server stops."""
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            process.terminate()
            await asyncio.wait({ended}, timeout=self._config.drain_seconds + _ENDING_SECONDS)
        if not ended.done():
            _log.error("worker killed", extra={"pid": process.pid})
            process.kill()
        return await ended


def _config_of(config: ServerConfig, worker: int) -> ServerConfig:
    """Returns the configuration of one worker."""
    changes: dict[str, object] = {}
    if not config.intra_op_threads:
        cores = len(os.sched_getaffinity(0))
        changes["intra_op_threads"] = max(1, cores // config.workers)
    if config.request_log_dir:
        changes["request_log_dir"] = str(worker_folder(Path(config.request_log_dir), worker))
        share = config.request_log_max_bytes // config.workers
        changes["request_log_max_bytes"] = max(share, _KEPT_BYTES)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


@contextlib.contextmanager
def _ports_reserved(config: ServerConfig) -> Iterator[ServerConfig]:
    """Reserves both ports of a server for its own workers, so that no other server gets them.

    Yields:
      ``config`` with the actual ports in place of 0.

    Raises:
      OSError: a port is in use, or the host is not an address of this machine.
    """
    with contextlib.ExitStack() as sockets:
        yield dataclasses.replace(
            config,
            rest_port=_reserve(config.host, config.rest_port, sockets),
            grpc_port=_reserve(config.host, config.grpc_port, sockets),
        )


def _reserve(host: str, port: int, sockets: contextlib.ExitStack) -> int:
    """Binds a port without listening, and returns it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        reserved = sockets.enter_context(socket.socket(family, kind, protocol))
        # As servers do: connections of a server that has ended must not block the port.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            reserved.bind((address[0], port, *address[2:]))
        except OSError as e:
            raise OSError(f"cannot listen on {host}:{port}: {e}") from e
        # Set only now: had it been set before, this port could be shared with another server's
        # workers.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = reserved.getsockname()[1]
    return port
