"""Versions in a push destination: directories whose names are numbers, as TF Serving expects."""

import os

import tensorflow as tf

from contract.manifest import RUN_KEY
from contract.release import stable_candidates
from contract.versions import SAVED_MODEL_FILE, is_version_name
from retrieval.manifest import missing_files, read_manifest
from retrieval.release import read_release

gfile = tf.io.gfile


def versions(push_destination: str) -> list[str]:
    """Returns every version, complete or not, oldest first."""
    if not gfile.exists(push_destination):
        return []
    # Object stores list directories with a slash at the end.
    names = (str(name).rstrip("/") for name in gfile.listdir(push_destination))
    return sorted((name for name in names if is_version_name(name)), key=int)


def complete_versions(push_destination: str) -> list[str]:
    """Returns the complete versions, oldest first.

    A version with a manifest is complete if it has ``saved_model.pb`` and every file in the
    manifest, each with the recorded size. A version without a manifest, which some other program
    pushed, is complete if it has ``saved_model.pb``.
    """
    return [
        version
        for version in versions(push_destination)
        if _is_complete(os.path.join(push_destination, version))
    ]


def newest_version(push_destination: str, other_than_run_key: str = "") -> str:
    """Returns the version in service, with which a run compares its own model.

    This is the newest complete version, unless the release state says otherwise: a pinned
    version comes first, a canary comes last, and withdrawn versions do not count.

    Args:
      push_destination: A directory with one directory per version.
      other_than_run_key: Versions with this run key do not count, so that a rerun of
        an unchanged pipeline finds the same baseline as before. "" counts all versions.

    Returns:
      The version, or "" if there is none.

    Raises:
      ReleaseError: if the release state is damaged or has a later format.
    """
    names = {int(name): name for name in complete_versions(push_destination)}
    for version in stable_candidates(read_release(push_destination), names):
        name = names[version]
        facts = read_manifest(os.path.join(push_destination, name)) or {}
        if not other_than_run_key or facts.get(RUN_KEY) != other_than_run_key:
            return name
    return ""


def _is_complete(version_dir: str) -> bool:
    return gfile.exists(os.path.join(version_dir, SAVED_MODEL_FILE)) and not missing_files(
        version_dir
    )
