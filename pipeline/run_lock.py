"""Ensures that only one run at a time uses an output directory."""

import contextlib
import datetime
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from contract.errors import UserError

_FILE = "run.lock"


class OutputInUseError(UserError):
    """Another run is writing to the output directory."""


@contextlib.contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Keeps other runs out of ``output`` while the context is open.

    The operating system releases the lock when the process ends, in whatever way, so a lock never
    outlives its run.

    Raises:
      OutputInUseError: another process holds the lock; the message names it.
    """
    path = output / _FILE
    # Not opened with "w", which would erase the description of the run that holds the lock.
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputInUseError(
                f"{output} is in use by {file.read().strip() or 'another run'}. Wait until that "
                "run has ended, or choose another --output_dir"
            ) from None
        file.truncate()
        started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {started}\n")
        file.flush()
        yield
        file.truncate(0)
