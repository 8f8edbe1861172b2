"""The bundle's ``manifest.json``: what it is, what it was made from, what it holds."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from tfx.dsl.io import fileio

# TF Serving ignores ``assets.extra`` but for warm-up requests.
MANIFEST_PATH = os.path.join("assets.extra", "manifest.json")
RUN_KEY = "run_key"
FILES = "files"
_CHUNK_BYTES = 1 << 20


def _describe_file(path: str) -> dict[str, int | str]:
    digest = hashlib.sha256()
    size = 0
    with fileio.open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def list_files(directory: str) -> list[str]:
    """Returns the paths of all files below ``directory``, relative to it, sorted."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), directory)
        for folder, _, names in fileio.walk(directory)
        for name in names
    )


def write_manifest(model_dir: str, facts: Mapping[str, Any]) -> None:
    """Writes ``facts`` and the size and digest of every file of ``model_dir``."""
    files = {
        path: _describe_file(os.path.join(model_dir, path))
        for path in list_files(model_dir)
        if path != MANIFEST_PATH
    }
    path = os.path.join(model_dir, MANIFEST_PATH)
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(json.dumps({**facts, FILES: files}, indent=2, sort_keys=True))


def read_manifest(model_dir: str) -> dict[str, Any] | None:
    """Returns the manifest, or None if there is none that can be read."""
    path = os.path.join(model_dir, MANIFEST_PATH)
    if not fileio.exists(path):
        return None
    try:
        with fileio.open(path, "r") as file:
            manifest = json.loads(file.read())
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def missing_files(model_dir: str) -> list[str]:
    """Returns the files that the manifest names and ``model_dir`` lacks."""
    manifest = read_manifest(model_dir) or {}
    present = set(list_files(model_dir))
    return sorted(set(manifest.get(FILES, {})) - present)
