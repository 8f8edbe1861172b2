"""What a person is told about an error: our own message first, then what caused it."""

import errno
from collections.abc import Iterator
from pathlib import Path

from contract.errors import UserError

# What the operating system, TensorFlow and SQLite (ML Metadata) say of a disk.
_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
_READ_ONLY = ("Read-only file system", "readonly database")
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)


def explain(error: BaseException, output_dir: Path) -> str:
    """Returns the message to show.

    Args:
      error: What stopped the run, possibly wrapped by Beam and TFX.
      output_dir: Where the run writes, for advice on a disk that takes nothing.
    """
    chain = list(_chain(error))
    ours = next((e for e in chain if isinstance(e, UserError)), None)
    if ours is None:
        lines = [_named(_root(error))]
    else:
        lines = [str(ours)]
        cause = _root(ours)
        if cause is not ours and str(cause) not in str(ours):
            lines.append(f"Cause: {_named(cause)}")
    advice = next((text for e in chain if (text := _disk_advice(e, output_dir))), None)
    if advice:
        lines.append(advice)
    return "\n".join(lines)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


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
