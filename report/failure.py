"""Explains an error to the user, with advice if a disk is full or read-only."""

import errno
from pathlib import Path

from contract import errors

# Messages of the operating system, TensorFlow and SQLite (ML Metadata) about a disk.
_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
_READ_ONLY = ("Read-only file system", "readonly database")
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)


def explain(error: BaseException, output_dir: Path) -> str:
    """Returns the message to show.

    Args:
      error: What stopped the run, possibly wrapped by Beam and TFX.
      output_dir: Where the run writes, for advice about a full or read-only disk.
    """
    advices = (_disk_advice(e, output_dir) for e in errors.chain(error))
    advice = next(filter(None, advices), None)
    return "\n".join(filter(None, (errors.explain(error), advice)))


def _disk_advice(error: BaseException, output_dir: Path) -> str | None:
    text = str(error)
    if any(words in text for words in _FULL):
        return (
            f"A disk is full. Free space where {output_dir} is (and in the directory for "
            "temporary files), or choose another place with --output_dir."
        )
    if any(words in text for words in _READ_ONLY) or _is_forbidden(error, output_dir):
        return (
            f"{output_dir} cannot be written. Make it writable for this account, or choose "
            "another place with --output_dir."
        )
    return None


def _is_forbidden(error: BaseException, output_dir: Path) -> bool:
    return (
        isinstance(error, OSError)
        and error.errno in _NOT_ALLOWED
        and isinstance(error.filename, str)
        and Path(error.filename).absolute().is_relative_to(output_dir)
    )
