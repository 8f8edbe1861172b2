"""Writes and reads the manifest of a bundle, on any file system that TensorFlow supports."""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from contract.manifest import (
    MANIFEST_PATH,
    FileFacts,
    describe_file,
    files_of,
    from_json,
    to_json,
)

gfile = tf.io.gfile


def list_files(directory: str) -> list[str]:
    """Returns the sorted paths of all files below ``directory``, relative to it."""
    return sorted(
        os.path.relpath(os.path.join(str(folder), str(name)), directory)
        for folder, _, names in gfile.walk(directory)
        for name in names
    )


def total_bytes(directory: str) -> int:
    """Returns the sum of the sizes of all files below ``directory``."""
    return sum(gfile.stat(os.path.join(directory, path)).length for path in list_files(directory))


def write_manifest(model_dir: str, facts: Mapping[str, Any]) -> None:
    """Writes ``facts``, and the size and digest of every file in ``model_dir``."""
    files = {
        path: _describe(os.path.join(model_dir, path))
        for path in list_files(model_dir)
        if path != MANIFEST_PATH
    }
    path = os.path.join(model_dir, MANIFEST_PATH)
    gfile.makedirs(os.path.dirname(path))
    with gfile.GFile(path, "w") as file:
        file.write(to_json(facts, files))


def read_manifest(model_dir: str) -> dict[str, Any] | None:
    """Returns the manifest, or None if it does not exist or is not valid."""
    path = os.path.join(model_dir, MANIFEST_PATH)
    if not gfile.exists(path):
        return None
    try:
        with gfile.GFile(path, "r") as file:
            return from_json(file.read())
    except ValueError:
        return None


def missing_files(model_dir: str) -> list[str]:
    """Returns the files in the manifest that ``model_dir`` lacks or has in another size.

    A manifest that exists but is not valid is itself returned as missing, because servers do not
    load such a version. If there is no manifest, nothing is missing.
    """
    if not gfile.exists(os.path.join(model_dir, MANIFEST_PATH)):
        return []
    try:
        files = files_of(read_manifest(model_dir) or {})
    except ValueError:
        return [MANIFEST_PATH]
    return [path for path, facts in files.items() if _size(model_dir, path) != facts.size]


def _describe(path: str) -> FileFacts:
    with gfile.GFile(path, "rb") as file:
        return describe_file(file)


def _size(model_dir: str, path: str) -> int | None:
    full_path = os.path.join(model_dir, path)
    return gfile.stat(full_path).length if gfile.exists(full_path) else None
