"""Runs a function in a separate process, whose memory is freed when it ends."""

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any

from contract.errors import UserError, explain

_MESSAGE, _RESULT, _ERROR = "message", "result", "error"


class IsolatedError(UserError):
    """The function raised an error, whose message this is, or its process died."""


def call(
    function: str,
    arguments: Mapping[str, Any],
    log_file: Path,
    on_message: Callable[[Any], Any] | None = None,
) -> Any:
    """Calls a function in a new process and waits for its result.

    The new process ends when this one ends, in whatever way. While it runs, only this process
    receives Ctrl-C, and then stops the other.

    Args:
      function: Import path of the function, ``module.name``, which the new process imports. It is
        called with ``arguments`` and ``send``, which sends a message, waits for the answer and
        returns it.
      arguments: Keyword arguments; they are pickled.
      log_file: File to which all output of the process is appended.
      on_message: Called in this process with every message; returns the answer.

    Raises:
      IsolatedError: the function raised an exception, or its process died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function, arguments, str(log_file)))
    process.start()
    theirs.close()
    try:
        while True:
            kind, content = ours.recv()
            if kind == _RESULT:
                return content
            if kind == _ERROR:
                raise IsolatedError(content)
            ours.send(on_message(content) if on_message else None)
    except EOFError:
        process.join()
        raise IsolatedError(_death(process.exitcode)) from None
    finally:
        ours.close()
        # The process has nothing left to do, or should not continue.
        process.terminate()
        process.join()


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"The process ended with exit code {code} without a result."
    advice = ""
    if code == -signal.SIGKILL:
        advice = " The system does this when memory runs out."
    return f"The process was ended by {signal.Signals(-code).name}.{advice}"


def _serve(
    pipe: connection.Connection, function: str, arguments: Mapping[str, Any], log_file: str
) -> None:
    """Runs in the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _redirect(log_file)

    def send(message: Any) -> Any:
        pipe.send((_MESSAGE, message))
        return pipe.recv()

    try:
        module, _, name = function.rpartition(".")
        result = getattr(importlib.import_module(module), name)(**arguments, send=send)
        pipe.send((_RESULT, result))
    except Exception as error:
        logging.getLogger(__name__).error("%s failed.", function, exc_info=error)
        with contextlib.suppress(OSError):
            pipe.send((_ERROR, explain(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _redirect(log_file: str) -> None:
    """Redirects the streams, also those of C++ libraries, and all logging to the file."""
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Otherwise output would appear only when the process ends, or never if it is killed.
        sys.stdout.reconfigure(line_buffering=True)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.captureWarnings(True)
