"""Files that several tests only read: built once in a run, whatever the number of workers."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def built_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]
) -> Path:
    """Returns a directory that ``build`` fills the first time that anyone asks for ``name``.

    Tests must not change what is in it; they copy it first.

    Args:
      tmp_path_factory: Of pytest.
      name: Of the directory; what is built must depend on nothing else.
      build: Called with the directory, which is empty or does not exist, to fill it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of the run, which all its workers share
    shared = root / "shared"
    shared.mkdir(exist_ok=True)
    target, finished = shared / name, shared / f"{name}.finished"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(target, ignore_errors=True)  # of a build that failed
            build(target)
            finished.touch()
    return target
