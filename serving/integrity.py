"""Verifies a pushed version by the digests in its own manifest."""

from pathlib import Path

import grpc

from contract.manifest import MANIFEST_PATH, describe_file, files_of, from_json
from serving.errors import ServingError


def verify_manifest(path: Path) -> None:
    """Compares every file with the manifest; does nothing if there is no manifest.

    TensorFlow notices damaged weights, but not a truncated vocabulary.

    Args:
      path: Version directory.

    Raises:
      ServingError: DATA_LOSS; a file is missing or differs from what was pushed.
    """
    if not (path / MANIFEST_PATH).exists():
        return
    try:
        _verify(path)
    except OSError as e:
        raise _damaged(path, f"{e.filename} cannot be read ({e.strerror})") from e


def _verify(path: Path) -> None:
    try:
        files = files_of(from_json((path / MANIFEST_PATH).read_text()))
    except ValueError as e:
        raise _damaged(path, f"{MANIFEST_PATH} cannot be read ({e})") from e
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise _damaged(path, f"{name} is missing")
        # The size comes first: it reveals most damage without reading the file.
        size = file.stat().st_size
        if size != expected.size:
            raise _damaged(path, f"{name} has {size} bytes, expected {expected.size}")
        with file.open("rb") as stream:
            if describe_file(stream) != expected:
                raise _damaged(path, f"{name} does not have the expected content")


def _damaged(path: Path, what: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.DATA_LOSS,
        f"{path} is damaged or incomplete: {what}. Push the version again.",
    )
