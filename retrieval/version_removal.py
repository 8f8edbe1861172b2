"""Removes old versions from the directory that a server watches."""

import os
import shutil
import time
import uuid
from collections.abc import Collection

from contract.versions import SAVED_MODEL_FILE
from retrieval.push import REMOVED_PREFIX, exclusive_lock
from retrieval.versions import complete_versions, versions

# A server may have seen a younger version appear and be about to load it.
_MIN_AGE_SECONDS = 3600


def removable_versions(
    base_directory: str, keep: int, in_use: Collection[str] = (), now: float | None = None
) -> list[str]:
    """Returns the versions that nobody needs any more, oldest first.

    Args:
      base_directory: A local directory that a server watches.
      keep: Newest complete versions that stay; at least 1.
      in_use: Further versions that stay.
      now: Seconds since 1970; by default the time of the call.

    Returns:
      Versions older than the kept ones that were pushed more than an hour ago,
      complete or not.
    """
    kept = complete_versions(base_directory)[-keep:]
    if not kept:
        return []
    latest = (time.time() if now is None else now) - _MIN_AGE_SECONDS
    return [
        version
        for version in versions(base_directory)
        if int(version) < int(kept[0])
        and version not in in_use
        and _pushed_at(os.path.join(base_directory, version)) < latest
    ]


def remove_version(base_directory: str, version: str) -> None:
    """Removes a version from a local directory that a server watches.

    It is renamed to a hidden name first, so that a server never finds a part of it. What
    a removal that is killed leaves is removed by the next push.

    Raises:
      OSError: if a file cannot be removed.
    """
    hidden = os.path.join(base_directory, f"{REMOVED_PREFIX}{version}-{uuid.uuid4().hex}")
    with exclusive_lock(base_directory):
        os.rename(os.path.join(base_directory, version), hidden)
        shutil.rmtree(hidden)


def _pushed_at(version_dir: str) -> float:
    """When the version was written, in seconds since 1970."""
    model = os.path.join(version_dir, SAVED_MODEL_FILE)
    return os.path.getmtime(model if os.path.exists(model) else version_dir)
