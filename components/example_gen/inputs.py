"""The input files of a run, and a digest of their content."""

import hashlib
import posixpath
from dataclasses import dataclass

from apache_beam.io.filesystem import FileMetadata

from components.example_gen.config import DataConfig, TableConfig
from components.example_gen.files import digest, resolve
from components.example_gen.span_names import LATEST
from components.example_gen.spans import Window, available, resolve_window


@dataclass(frozen=True)
class Inputs:
    """The input files of a run.

    Attributes:
      span: The value of ``{SPAN}``; with a window, its newest span.
      files: The files of each table, in the order in which they are read.
      window: The spans of the interaction log; None if the run reads no window.
    """

    span: str
    files: dict[str, list[FileMetadata]]
    window: Window | None

    @property
    def size_in_bytes(self) -> int:
        """The total size of all files."""
        return sum(file.size_in_bytes for files in self.files.values() for file in files)


def find_inputs(data_config: DataConfig, span: str = "") -> Inputs:
    """Finds the files that a run with this configuration reads now.

    Args:
      data_config: The configuration of the tables.
      span: Name of the span, or of the newest span of the window. ``latest`` is the newest
        span that has a file; with a window, so is "".

    Raises:
      DataError: as in ``files.resolve`` and ``spans.resolve_window``.
    """
    window = None
    if data_config.window is not None:
        window = resolve_window(data_config.interactions, data_config.window, span)
        span = window.newest
    elif span == LATEST:
        span = available(data_config.interactions)[-1].text
    files = {}
    for name, table in tables(data_config).items():
        if window is not None and table is data_config.interactions:
            files[name] = [file for part in window.spans for file in part.files]
        else:
            files[name] = resolve(table, span)
    return Inputs(span, files, window)


def tables(data_config: DataConfig) -> dict[str, TableConfig]:
    """Returns the configured tables by name, in a fixed order."""
    found = {
        "interactions": data_config.interactions,
        "items": data_config.items,
        "users": data_config.users,
    }
    return {name: table for name, table in found.items() if table is not None}


def fingerprint(inputs: Inputs, forgotten_digest: str = "") -> str:
    """Returns a digest of the content of all input files and of the list of forgotten ids.

    TFX's cache compares only parameters, so this digest is one of them: a run with changed files
    then misses the cache.

    Args:
      inputs: The files.
      forgotten_digest: ``Forgotten.digest`` of the list in use.

    Raises:
      DataError: if a file cannot be read.
    """
    found = hashlib.blake2b(forgotten_digest.encode(), digest_size=16)
    for name, files in inputs.files.items():
        for file in files:
            found.update(f"\0{name}\0{posixpath.basename(file.path)}\0{digest(file)}".encode())
    return found.hexdigest()
