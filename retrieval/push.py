"""Copies a model to a new version in the directory that a server watches."""

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from contract.errors import UserError
from contract.manifest import REFRESH, RUN_KEY
from contract.release import Withdrawal
from contract.versions import SAVED_MODEL_FILE
from retrieval.manifest import list_files, read_manifest
from retrieval.release import read_release
from retrieval.versions import complete_versions, versions

gfile = tf.io.gfile

_STAGING_PREFIX = ".staging-"
# The prefix of the hidden names of versions that are being removed.
REMOVED_PREFIX = ".removed-"
_LOCK_FILE = ".push.lock"


class WithdrawnError(UserError):
    """The model to be pushed has already been pushed, and that version was withdrawn.

    Attributes:
      version: The version that holds the same model.
      withdrawal: When, by whom and why the version was withdrawn.
    """

    def __init__(self, base_directory: str, version: str, withdrawal: Withdrawal):
        super().__init__(
            f"Version {version} in {base_directory} holds this model and was withdrawn at "
            f"{withdrawal.at} by {withdrawal.by} ({withdrawal.reason}); nothing was pushed. "
            f"To serve it again: python -m serving.release promote {version} --model_base_path "
            f"{base_directory}"
        )
        self.version = version
        self.withdrawal = withdrawal


def push(model_dir: str, base_directory: str) -> str:
    """Copies ``model_dir`` to a new version of ``base_directory``.

    Both may be local or in an object store (``s3://``, ``gs://``).

    In a local ``base_directory`` the version is copied under a hidden name,
    flushed to disk and then renamed, so that a server sees all of it or nothing. If
    the push is killed, it leaves no version, and the next push removes its files. An
    object store cannot rename. There ``saved_model.pb`` is copied last, because
    a server loads a version only once it finds that file.

    Nothing is copied if the same model has already been pushed and no newer version has
    replaced it. A newer version of the same run with refreshed items does not count as a
    replacement, because a rerun of the pipeline must not undo the refresh. Nor does a version
    that was withdrawn; the model that it holds is refused, because a rerun must not undo a
    roll-back.

    Args:
      model_dir: The directory of a SavedModel.
      base_directory: The directory that the server watches; created if it does not exist.

    Returns:
      The name of the version that holds the model. A new version is named by the current time
      in seconds since 1970, or by the largest existing or withdrawn version plus one if that is
      larger.

    Raises:
      FileNotFoundError: if ``model_dir`` is not a SavedModel.
      WithdrawnError: if a version that holds the same model was withdrawn.
      ReleaseError: if the release state is damaged or in an unknown format.
      FileExistsError: if another process created the same version in the meantime.
    """
    if not gfile.exists(os.path.join(model_dir, SAVED_MODEL_FILE)):
        raise FileNotFoundError(
            f"Cannot push {model_dir}: expected a SavedModel, found no {SAVED_MODEL_FILE} in it."
        )
    gfile.makedirs(base_directory)
    if "://" in base_directory:
        return _pushed_before(model_dir, base_directory) or _push_to_store(
            model_dir, base_directory
        )
    with exclusive_lock(base_directory):
        _remove_leftovers(base_directory)
        return _pushed_before(model_dir, base_directory) or _push_by_rename(
            model_dir, base_directory
        )


def _pushed_before(model_dir: str, base_directory: str) -> str:
    """Returns the complete version that holds the same model, or "" if it has to be pushed."""
    model = read_manifest(model_dir)
    if model is None:
        return ""
    complete = complete_versions(base_directory)
    withdrawn = read_release(base_directory).withdrawn
    for version in complete:
        if int(version) in withdrawn and _manifest(base_directory, version) == model:
            raise WithdrawnError(base_directory, version, withdrawn[int(version)])
    for version in reversed([v for v in complete if int(v) not in withdrawn]):
        pushed = _manifest(base_directory, version)
        if pushed == model:
            return version
        if REFRESH not in pushed or pushed.get(RUN_KEY) != model.get(RUN_KEY):
            return ""
    return ""


def _manifest(base_directory: str, version: str) -> Mapping[str, Any]:
    return read_manifest(os.path.join(base_directory, version)) or {}


def _next_version(base_directory: str) -> str:
    """Returns a version above all that exist, complete or not, and all that were withdrawn."""
    used = [*map(int, versions(base_directory)), *read_release(base_directory).withdrawn]
    return str(max([int(time.time()), *(version + 1 for version in used)]))


def _push_by_rename(model_dir: str, base_directory: str) -> str:
    staging = os.path.join(base_directory, f"{_STAGING_PREFIX}{uuid.uuid4().hex}")
    for path in _copy_files(model_dir, staging):
        _flush_to_disk(path)
    version = _next_version(base_directory)
    final = os.path.join(base_directory, version)
    if os.path.exists(final):
        raise FileExistsError(
            f"Another process created {final} during the push; nothing was pushed. Run again."
        )
    os.rename(staging, final)
    _flush_to_disk(base_directory)
    return version


def _push_to_store(model_dir: str, base_directory: str) -> str:
    version = _next_version(base_directory)
    _copy_files(model_dir, os.path.join(base_directory, version))
    return version


def _copy_files(model_dir: str, destination: str) -> list[str]:
    """Copies all files, ``saved_model.pb`` last, and returns the paths of the copies."""
    copies = []
    for path in sorted(list_files(model_dir), key=lambda path: path == SAVED_MODEL_FILE):
        copy = os.path.join(destination, path)
        gfile.makedirs(os.path.dirname(copy))
        gfile.copy(os.path.join(model_dir, path), copy)
        copies.append(copy)
    return copies


@contextlib.contextmanager
def exclusive_lock(base_directory: str) -> Iterator[None]:
    """Waits until no other process pushes to ``base_directory`` or removes versions from it.

    The operating system releases the lock when a process ends, even if it is killed.
    """
    with open(os.path.join(base_directory, _LOCK_FILE), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(base_directory: str) -> None:
    """Removes the hidden directories of pushes and removals that were killed."""
    for name in os.listdir(base_directory):
        if name.startswith((_STAGING_PREFIX, REMOVED_PREFIX)):
            gfile.rmtree(os.path.join(base_directory, name))


def _flush_to_disk(path: str) -> None:
    """Flushes a file, or the entries of a directory, so that they survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
