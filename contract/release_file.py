"""Reads and writes the release state in a local directory of versions."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from contract.release import ReleaseError, ReleaseState, parse, to_json

FILE_NAME = "release.json"
_LOCK_FILE = ".release.lock"
_NEW_FILE = ".release.json.new"
# A change takes milliseconds. The limit keeps a server from waiting forever for one that hangs.
_LOCK_SECONDS = 10.0
_LOCK_POLL_SECONDS = 0.02


def read(base_path: Path) -> ReleaseState:
    """Reads the release state of the model whose versions are in ``base_path``.

    Returns:
      The state; an empty one if there is no file.

    Raises:
      ReleaseError: if the file is damaged or has a later format.
      OSError: if the file cannot be read.
    """
    path = base_path / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ReleaseState()
    except UnicodeDecodeError as e:
        raise ReleaseError(f"The release state {path} cannot be used: not UTF-8 text ({e})") from e
    return parse(text, str(path))


def change(base_path: Path, make: Callable[[ReleaseState], ReleaseState]) -> ReleaseState:
    """Replaces the release state by the result of ``make``, or leaves it if ``make`` raises.

    Only one process changes the state at a time; others wait. Readers see either the old or the
    new state.

    Args:
      base_path: Directory of the model's versions.
      make: Returns the new state for the current one; its exceptions are passed on.

    Returns:
      The new state.

    Raises:
      ReleaseError: if the current state cannot be used, or another process does not finish its
        change in time.
      OSError: if the file cannot be read or written.
    """
    with _exclusive_lock(base_path):
        before = read(base_path)
        after = make(before)
        if after != before:
            _write(base_path, to_json(after))
        return after


def _write(base_path: Path, text: str) -> None:
    # The name is fixed, so that killed writers leave at most one such file.
    new = base_path / _NEW_FILE
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(base_path / FILE_NAME)
    directory = os.open(base_path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _exclusive_lock(base_path: Path) -> Iterator[None]:
    """Waits until no other process changes the state; the lock ends with the process."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with open(base_path / _LOCK_FILE, "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ReleaseError(
                        f"Another process has been changing the release state in {base_path} for "
                        f"{_LOCK_SECONDS:g} seconds; stop that process and try again"
                    ) from None
            time.sleep(_LOCK_POLL_SECONDS)
        yield
