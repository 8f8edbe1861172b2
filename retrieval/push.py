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
# Of versions that are being removed.
REMOVED_PREFIX = ".removed-"
_LOCK_FILE = ".push.lock"


class WithdrawnError(UserError):
    """The very model that is to be pushed was pushed before and withdrawn.

    Attributes:
      version: The version that holds it.
      withdrawal: When, by whom and why it was withdrawn.
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
    written to disk and then renamed, so that a server sees all of it or none. A
    push that is killed leaves no version; the next push removes its files. An
    object store has no rename: there ``saved_model.pb`` is copied last, because
    a server loads a version only once it finds that file.

    Nothing is copied if this very model has been pushed and nothing newer replaces
    it. A newer version of the same run with refreshed items does not replace it: a
    rerun of the pipeline must not undo the refresh. A version that was withdrawn replaces
    nothing, and the model that it holds is refused: a rerun must not undo a roll-back.

    Args:
      model_dir: A SavedModel.
      base_directory: The directory that the server watches; made if missing.

    Returns:
      The name of the version that holds the model. A new one is the current time in
      seconds, or one more than the largest existing version if that is larger.

    Raises:
      FileNotFoundError: if ``model_dir`` is not a SavedModel.
      WithdrawnError: if this very model is in a version that was withdrawn.
      ReleaseError: if the release state cannot be used.
      FileExistsError: if another process made the same version meanwhile.
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
    """Returns the complete version that holds this very model, or "" if it is to be pushed."""
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
    """Returns a version above every one that exists, complete or not, or was withdrawn."""
    used = [*map(int, versions(base_directory)), *read_release(base_directory).withdrawn]
    return str(max([int(time.time()), *(version + 1 for version in used)]))


def _push_by_rename(model_dir: str, base_directory: str) -> str:
    staging = os.path.join(base_directory, f"{_STAGING_PREFIX}{uuid.uuid4().hex}")
    for path in _copy_files(model_dir, staging):
        _flush_to_disk(path)
    version = _next_version(base_directory)
    final = os.path.join(base_directory, version)
    if os.path.exists(final):
        raise FileExistsError(f"{final} appeared during the push; nothing was pushed. Run again.")
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
    """Waits until no other process pushes to ``base_directory`` or removes from it.

    The operating system releases the lock of a process that ends in any way.
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
    """Makes the content of a file, or the names in a directory, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
