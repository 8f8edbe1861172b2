"""Removes old versions from the directory that a server watches."""

import os
import shutil
import time
import uuid
from collections.abc import Collection

from contract.release import in_use
from contract.versions import SAVED_MODEL_FILE
from retrieval.push import REMOVED_PREFIX, exclusive_lock
from retrieval.release import read_release
from retrieval.versions import complete_versions, versions

# A server may be about to load a younger version.
_MIN_AGE_SECONDS = 3600


def removable_versions(
    base_directory: str, keep: int, also: Collection[str] = (), now: float | None = None
) -> list[str]:
    """Returns the versions that are no longer needed, oldest first.

    Args:
      base_directory: A local directory that a server watches.
      keep: Number of newest complete versions to keep; at least 1.
      also: Further versions to keep.
      now: Seconds since 1970; by default the time of the call.

    Returns:
      The versions, complete or not, that are older than the kept ones, were pushed more than an
      hour ago, and are not used by the release state.

    Raises:
      ReleaseError: if the release state is damaged or has a later format.
    """
    complete = complete_versions(base_directory)
    kept = complete[-keep:]
    if not kept:
        return []
    used = in_use(read_release(base_directory), [int(version) for version in complete])
    latest = (time.time() if now is None else now) - _MIN_AGE_SECONDS
    return [
        version
        for version in versions(base_directory)
        if int(version) < int(kept[0])
        and version not in also
        and int(version) not in used
        and _pushed_at(os.path.join(base_directory, version)) < latest
    ]


def remove_version(base_directory: str, version: str) -> None:
    """Removes a version from a local directory that a server watches.

    The version is first renamed to a hidden name, so that a server never finds only a part of it.
    If the removal is killed, the next push removes what is left.

    Raises:
      OSError: if a file cannot be removed.
    """
    hidden = os.path.join(base_directory, f"{REMOVED_PREFIX}{version}-{uuid.uuid4().hex}")
    with exclusive_lock(base_directory):
        os.rename(os.path.join(base_directory, version), hidden)
        shutil.rmtree(hidden)


def _pushed_at(version_dir: str) -> float:
    """Returns when the version was written, in seconds since 1970."""
    model = os.path.join(version_dir, SAVED_MODEL_FILE)
    return os.path.getmtime(model if os.path.exists(model) else version_dir)
