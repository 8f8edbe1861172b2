"""Servers that the benchmarks start on free ports of the loopback interface, and end."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

_Value = TypeVar("_Value")


@contextlib.contextmanager
def embedded_server(bundle: Path, *flags: str) -> Iterator[dict[str, Any]]:
    """Serves a bundle, as the model ``mind``, until the block ends.

    Args:
      bundle: The directory of the version.
      *flags: Further flags of the server.

    Yields:
      ``pid``, ``kind`` ("embedded"), and the addresses ``rest`` and ``grpc``.
    """
    with tempfile.TemporaryDirectory() as base:
        Path(base, "1").symlink_to(bundle.absolute(), target_is_directory=True)
        with served(Path(base), bundle.parent / f"{bundle.name}.log", *flags) as target:
            yield target


@contextlib.contextmanager
def served(base: Path, log: Path, *flags: str) -> Iterator[dict[str, Any]]:
    """Serves the versions in ``base`` until the block ends.

    Args:
      base: Directory of the versions.
      log: File for the server's log.
      *flags: Further flags of the server.

    Yields:
      What ``embedded_server`` yields.
    """
    command = [
        *(sys.executable, "-m", "serving.server", "--model_base_path", str(base)),
        *("--rest_port", "0", "--grpc_port", "0", *flags),
    ]
    with running(command, log) as process:
        rest_port, grpc_port = wait_for(lambda: ports(log))
        target = {
            "pid": process.pid,
            "kind": "embedded",
            "rest": f"http://127.0.0.1:{rest_port}",
            "grpc": f"127.0.0.1:{grpc_port}",
        }
        wait_for(lambda: is_answering(f"{target['rest']}/ready"))
        yield target


def ports(log: Path) -> tuple[int, int] | None:
    """Returns the REST and gRPC ports that a server wrote to its log, None if it has not yet."""
    match = re.search(r'"rest_port": (\d+), "grpc_port": (\d+)', _text(log))
    return (int(match[1]), int(match[2])) if match else None


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] = os.environ
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command until the block ends; if the block fails, prints the end of the output.

    Args:
      command: The program and its arguments.
      log: File for the output of the command.
      environment: Environment variables of the command.

    Yields:
      The process.
    """
    environment = {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, stdout=output, env=environment)
    try:
        yield process
    except Exception:
        print(_text(log)[-2000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(30)


def is_answering(url: str) -> bool:
    """Returns whether ``url`` answers with success."""
    try:
        return httpx.get(url, timeout=1.0, verify=False).is_success  # saves setting up TLS
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], _Value], seconds: float = 900.0) -> Any:
    """Waits until ``condition`` returns a true value, and returns that value.

    Raises:
      TimeoutError: if that takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server was not ready within {seconds:g} s")
        time.sleep(0.1)
    return value


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
