"""Checks a pushed version against the digests in its own manifest."""

import hashlib
import json
from pathlib import Path

import grpc

from serving.errors import ServingError

# Written by the index builder: {"files": {path: {"bytes": n, "sha256": hex}}}.
MANIFEST = Path("assets.extra", "manifest.json")
_CHUNK_BYTES = 1 << 20


def verify_manifest(path: Path) -> None:
    """Compares every file with the manifest; does nothing where there is none.

    TensorFlow notices damaged weights, but not a vocabulary cut short.

    Args:
      path: Version directory.

    Raises:
      ServingError: DATA_LOSS; a file is missing or is not what was pushed.
    """
    if not (path / MANIFEST).exists():
        return
    try:
        _verify(path)
    except OSError as e:
        raise _damaged(path, f"{e.filename} cannot be read ({e.strerror})") from e


def _verify(path: Path) -> None:
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise _damaged(path, f"{MANIFEST} cannot be read ({type(e).__name__}: {e})") from e
    for name, (size, digest) in sorted(expected.items()):
        file = path / name
        if not file.is_file():
            raise _damaged(path, f"{name} is missing")
        found = file.stat().st_size
        if found != size:
            raise _damaged(path, f"{name} has {found} bytes, expected {size}")
        if _sha256(file) != digest:
            raise _damaged(path, f"{name} does not have the expected content")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _damaged(path: Path, what: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.DATA_LOSS,
        f"{path} is damaged or incomplete: {what}. Push the version again.",
    )
