"""Copies a model to where a server watches for versions, whole or not at all."""

import contextlib
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator

from tfx.dsl.io import fileio
from tfx.utils import io_utils

from contract.versions import SAVED_MODEL_FILE
from retrieval.manifest import read_manifest
from retrieval.versions import complete_versions, versions

_STAGING_PREFIX = ".staging-"
_LOCK_FILE = ".push.lock"


def push(model_dir: str, base_directory: str) -> str:
    """Copies ``model_dir`` to a new version of ``base_directory``.

    On a local file system the version appears by one rename, after everything
    is on disk: a push that is killed leaves no version, and the next one
    removes what it left. On an object store, which has no rename,
    saved_model.pb comes last, as in TFX: servers wait for it.

    A model that is the newest version already is not copied again.

    Args:
      model_dir: A SavedModel.
      base_directory: The directory that the server watches.

    Returns:
      The version: the time in seconds, or more if that is not larger than
      every version that is there.

    Raises:
      FileNotFoundError: if ``model_dir`` is not a SavedModel.
      FileExistsError: if somebody else has made the version meanwhile.
    """
    if not fileio.exists(os.path.join(model_dir, SAVED_MODEL_FILE)):
        raise FileNotFoundError(
            f"Cannot push {model_dir}: expected a SavedModel, found no {SAVED_MODEL_FILE} in it."
        )
    fileio.makedirs(base_directory)
    if "://" in base_directory:
        return _newest_if_same(model_dir, base_directory) or _push_file_by_file(
            model_dir, base_directory
        )
    with _only_push(base_directory):
        _remove_leftovers(base_directory)
        return _newest_if_same(model_dir, base_directory) or _push_by_rename(
            model_dir, base_directory
        )


def _newest_if_same(model_dir: str, base_directory: str) -> str:
    """Returns the newest complete version if it is this very model, else ""."""
    manifest = read_manifest(model_dir)
    complete = complete_versions(base_directory)
    if manifest is None or not complete:
        return ""
    newest = complete[-1]
    return newest if read_manifest(os.path.join(base_directory, newest)) == manifest else ""


def _next_version(base_directory: str) -> str:
    """Returns a version above every existing one, complete or not."""
    return str(max([int(time.time()), *(int(name) + 1 for name in versions(base_directory))]))


def _push_by_rename(model_dir: str, base_directory: str) -> str:
    staging = os.path.join(base_directory, f"{_STAGING_PREFIX}{uuid.uuid4().hex}")
    shutil.copytree(model_dir, staging, copy_function=_copy_to_disk)
    version = _next_version(base_directory)
    final = os.path.join(base_directory, version)
    if os.path.exists(final):
        raise FileExistsError(f"{final} appeared during the push; nothing was pushed. Run again.")
    os.rename(staging, final)
    _sync(base_directory)
    return version


def _push_file_by_file(model_dir: str, base_directory: str) -> str:
    version = _next_version(base_directory)
    final = os.path.join(base_directory, version)
    io_utils.copy_dir(model_dir, final, deny_regex_patterns=[re.escape(SAVED_MODEL_FILE) + "$"])
    io_utils.copy_file(
        os.path.join(model_dir, SAVED_MODEL_FILE), os.path.join(final, SAVED_MODEL_FILE)
    )
    return version


@contextlib.contextmanager
def _only_push(base_directory: str) -> Iterator[None]:
    """Waits until no other push works on ``base_directory``; a killed one does not."""
    with open(os.path.join(base_directory, _LOCK_FILE), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(base_directory: str) -> None:
    for name in os.listdir(base_directory):
        if name.startswith(_STAGING_PREFIX):
            shutil.rmtree(os.path.join(base_directory, name))


def _copy_to_disk(source: str, destination: str) -> str:
    shutil.copyfile(source, destination)
    _sync(destination)
    return destination


def _sync(path: str) -> None:
    """Makes sure that ``path`` survives a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
