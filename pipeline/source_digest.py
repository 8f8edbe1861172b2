"""Digest of source files.

TFX keys its cache on parameters and inputs, not on the code behind an import
path. Every component therefore carries the digest of the code it runs as a
parameter: an edited file is never served from cache, an unrelated one is.
"""

import hashlib
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def source_digest(*places: str) -> str:
    """Hex digest of the Python files in ``places``.

    Args:
      *places: Files or folders relative to the project's root.

    Raises:
      FileNotFoundError: for a place that does not exist.
    """
    digest = hashlib.sha256()
    for place in sorted(places):
        path = _ROOT / place
        if not path.exists():
            raise FileNotFoundError(f"source_digest: {place!r} does not exist under {_ROOT}")
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(_ROOT)).encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
