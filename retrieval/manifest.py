"""The bundle's ``manifest.json``: what it is, what it was made from, what it holds."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

gfile = tf.io.gfile

# TF Serving ignores ``assets.extra`` but for warm-up requests.
MANIFEST_PATH = os.path.join("assets.extra", "manifest.json")
RUN_KEY = "run_key"
FILES = "files"
EXAMPLES = "examples"
_CHUNK_BYTES = 1 << 20


def _describe_file(path: str) -> dict[str, int | str]:
    digest = hashlib.sha256()
    size = 0
    with gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def list_files(directory: str) -> list[str]:
    """Returns the paths of all files below ``directory``, relative to it, sorted."""
    return sorted(
        os.path.relpath(os.path.join(str(folder), str(name)), directory)
        for folder, _, names in gfile.walk(directory)
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
    gfile.makedirs(os.path.dirname(path))
    with gfile.GFile(path, "w") as file:
        file.write(json.dumps({**facts, FILES: files}, indent=2, sort_keys=True))


def read_manifest(model_dir: str) -> dict[str, Any] | None:
    """Returns the manifest, or None if there is none that can be read."""
    path = os.path.join(model_dir, MANIFEST_PATH)
    if not gfile.exists(path):
        return None
    try:
        with gfile.GFile(path, "r") as file:
            manifest = json.loads(file.read())
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def missing_files(model_dir: str) -> list[str]:
    """Returns the files that the manifest names and ``model_dir`` lacks or has cut short."""
    files = (read_manifest(model_dir) or {}).get(FILES, {})
    return [
        path for path, facts in sorted(files.items()) if _size(model_dir, path) != facts["bytes"]
    ]


def _size(model_dir: str, path: str) -> int | None:
    full_path = os.path.join(model_dir, path)
    return gfile.stat(full_path).length if gfile.exists(full_path) else None
