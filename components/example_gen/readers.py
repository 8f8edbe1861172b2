"""Reads the requested columns of CSV, Parquet and JSON-lines files in blocks."""

import collections
import contextlib
import difflib
import io
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.example_gen.config import TableConfig
from components.example_gen.errors import DataError
from components.example_gen.files import check_beginning, file_format

BLOCK_BYTES = 1 << 24
_HEADER_BYTES = 1 << 20
_PARQUET_ROWS = 1 << 18
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd"}
# The configuration keys of ids, each of which must be a single value and not a list.
_ID_KEYS = ("user_column", "item_column", "id_column")
# Replaces a delimiter of several characters, which Arrow does not support.
_UNIT_SEPARATOR = b"\x1f"


@dataclass(frozen=True)
class RejectedRow:
    """A row that could not be parsed.

    Attributes:
      reason: Why it could not be parsed.
      row: Its number in the file; see ``Block.row_numbers``.
      raw: The text of the row.
    """

    reason: str
    row: int
    raw: str


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a file.

    Attributes:
      columns: The requested columns, with the types that they have in the file.
      row_numbers: Number of each row [R], from 1. For text files this is the number of its line,
        except that CSV files count neither blank lines nor line breaks in quotes.
      rejected: Rows of this block that could not be parsed; they are not in ``columns``.
    """

    columns: pa.Table
    row_numbers: np.ndarray
    rejected: list[RejectedRow] = field(default_factory=list)


def column_names(path: str, table: TableConfig) -> list[str]:
    """Returns the names of the columns of a file.

    Raises:
      DataError: if the file is empty or does not have its format.
    """
    return _schema(path, table).names


def _schema(path: str, table: TableConfig) -> pa.Schema:
    """Returns the columns of a file, with their types if it is a Parquet file."""
    kind = file_format(table, path)
    with _readable(path), _local_file(path, table) as file:
        if kind == "parquet":
            return pyarrow.parquet.read_schema(file.path)
        with _open(file) as stream:
            if kind == "csv":
                return _open_csv(stream, table, None, _HEADER_BYTES, []).schema
            names = _json_names(path, io.BufferedReader(stream, _HEADER_BYTES))
            return pa.schema([(name, pa.null()) for name in names])


def _json_names(path: str, stream: io.BufferedReader) -> list[str]:
    """Returns the field names in the first rows of JSON lines."""
    head = stream.read(_HEADER_BYTES)
    if not head:
        raise DataError(f"{path} is empty")
    is_array = head.lstrip().startswith(b"[")
    if not is_array:
        head += stream.readline()  # the rest of the last line
    rows = [row for line in head.splitlines() if (row := _json_object(line)) is not None]
    if not rows and is_array:
        raise DataError(
            f"{path} begins with '[', as one JSON array does; expected JSON lines: one object per "
            "line. Convert it, for example with: jq -c '.[]' FILE > FILE.jsonl"
        )
    if not rows:
        raise DataError(
            f"{path}: none of the first lines is a JSON object; expected JSON lines: one object "
            "per line, without line breaks inside"
        )
    return list(dict.fromkeys(name for row in rows for name in row))


def check_columns(path: str, table: TableConfig, columns: dict[str, str]) -> None:
    """Checks that a file has ``columns`` (column name by configuration key).

    Raises:
      DataError: if columns are missing (the message names them, the most similar names and the
        columns present), if a requested column occurs twice, or if an id column contains lists.
    """
    schema = _schema(path, table)
    present = schema.names
    for key, name in columns.items():
        _check_column(path, schema, key, name)
    missing = {key: name for key, name in columns.items() if name not in present}
    if not missing:
        return
    lines = [f"{path} lacks {len(missing)} column(s):"]
    for key, name in missing.items():
        nearest = difflib.get_close_matches(name, present, n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        lines.append(f"  {key} = {name!r}{hint}")
    lines.append(f"Columns present: {', '.join(map(repr, present))}")
    if len(present) == 1 and file_format(table, path) == "csv":
        lines.append(f"Only one column: is {table.delimiter!r} the right delimiter?")
    raise DataError("\n".join(lines))


def _check_column(path: str, schema: pa.Schema, key: str, name: str) -> None:
    count = collections.Counter(schema.names)[name]
    if count > 1:
        raise DataError(
            f"{path} has {count} columns called {name!r}, so {key} = {name!r} is ambiguous. Rename "
            "all but one of them"
        )
    if count and key in _ID_KEYS and pa.types.is_nested(schema.field(name).type):
        raise DataError(
            f"{path}: {key} = {name!r} is a column of type {schema.field(name).type}; expected "
            "ids, which are one number or text per row"
        )


def read_blocks(path: str, table: TableConfig, columns: dict[str, str]) -> Iterator[Block]:
    """Reads a file in blocks of bounded size, in the order of the file.

    Args:
      path: Any path that Beam's ``FileSystems`` can open; the extension tells the compression.
      table: Format, delimiter and the like.
      columns: Requested columns by configuration key.

    Yields:
      The blocks.

    Raises:
      DataError: if the file is truncated, does not have its format, or lacks a column.
    """
    readers = {"csv": _read_csv, "parquet": _read_parquet, "jsonl": _read_jsonl}
    read = readers[file_format(table, path)]
    with _readable(path), _local_file(path, table) as file:
        check_columns(path, table, columns)
        ids = {columns[key] for key in _ID_KEYS if key in columns}
        yield from read(file, table, list(dict.fromkeys(columns.values())), ids)


@dataclass(frozen=True)
class _LocalFile:
    """A file on this machine.

    Attributes:
      path: Its path.
      codec: Arrow's name for its compression; None if it is not compressed.
    """

    path: str
    codec: str | None


@contextlib.contextmanager
def _local_file(path: str, table: TableConfig) -> Iterator[_LocalFile]:
    """Yields the file itself if Arrow can read it directly, and otherwise a temporary copy.

    Arrow reads ahead in threads of its own. If the source is a Python stream, such as those of
    Beam's file systems, these threads need the interpreter lock. A reader that is closed before
    the end would hold the lock while it waits for the threads, and so wait forever.
    """
    check_beginning(path, table)
    codec = _CODECS.get(posixpath.splitext(path)[1].lower())
    replace = len(table.delimiter) > 1 and file_format(table, path) == "csv"
    if not replace and not FileSystems.get_scheme(path):
        yield _LocalFile(path, codec)
        return
    with tempfile.NamedTemporaryFile() as copy:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            if replace:
                source: Any = pa.PythonFile(stream, mode="r")
                source = pa.CompressedInputStream(source, codec) if codec else source
                _copy_replacing(source, copy, table.delimiter.encode(), _UNIT_SEPARATOR)
                codec = None
            else:
                shutil.copyfileobj(stream, copy, BLOCK_BYTES)
        copy.flush()
        yield _LocalFile(copy.name, codec)


def _copy_replacing(source: Any, target: IO[bytes], old: bytes, new: bytes) -> None:
    """Copies line by line, so that no occurrence of ``old`` is split between two reads."""
    for line in io.BufferedReader(source, BLOCK_BYTES):
        target.write(line.replace(old, new))


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turns the various errors of a broken file into a ``DataError``."""
    try:
        yield
    except DataError:
        raise
    except (pa.ArrowInvalid, EOFError, UnicodeError, OSError) as error:
        if "Empty CSV file" in str(error):
            raise DataError(f"{path} is empty") from error
        raise DataError(
            f"Cannot read {path}: {error}. If it is complete, check `format`, `delimiter`, "
            "`encoding` and, for a CSV file with stray double quotes, `quoting: false`"
        ) from error


def _open(file: _LocalFile) -> pa.NativeFile:
    stream = pa.OSFile(file.path)
    return pa.CompressedInputStream(stream, file.codec) if file.codec else stream


def _open_csv(
    stream: pa.NativeFile,
    table: TableConfig,
    columns: list[str] | None,
    block_bytes: int,
    invalid: list[pyarrow.csv.InvalidRow],
) -> pyarrow.csv.CSVStreamingReader:
    delimiter, quoting = table.delimiter, table.quoting
    if len(delimiter) > 1:  # it was replaced in the copy of the file
        delimiter, quoting = _UNIT_SEPARATOR.decode(), False

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    types = {} if columns is None else {name: pa.binary() for name in columns}
    return pyarrow.csv.open_csv(
        stream,
        # Arrow numbers the rows that it skips only if it uses one thread.
        pyarrow.csv.ReadOptions(
            use_threads=False,
            block_size=block_bytes,
            encoding=table.encoding,
            column_names=list(table.column_names) or None,
        ),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if quoting else False,
            newlines_in_values=quoting,
            invalid_row_handler=skip,
        ),
        # Read unchecked bytes, so that a bad byte costs one row and not the whole file.
        pyarrow.csv.ConvertOptions(
            check_utf8=False,
            include_columns=columns,
            column_types=types,
            strings_can_be_null=False,
        ),
    )


def _read_csv(
    file: _LocalFile, table: TableConfig, columns: list[str], ids: set[str]
) -> Iterator[Block]:
    del ids  # a cell is never a list
    invalid: list[pyarrow.csv.InvalidRow] = []
    first_line = 1 if table.column_names else 2  # a header is line 1
    read = 0  # rows read and kept so far
    skipped: list[int] = []  # for each skipped row, how many kept rows come before it
    with _open(file) as stream:
        reader = _open_csv(stream, table, columns, BLOCK_BYTES, invalid)
        for batch in _batches(reader):
            # Arrow parses ahead in a thread, so ``invalid`` may already contain rows of a later
            # block, and more may be added while this block is processed.
            rejected = _take(invalid)
            for row in rejected:
                skipped.append(row.number - first_line - len(skipped))
            index = np.arange(read, read + batch.num_rows)
            numbers = index + first_line + np.searchsorted(skipped, index, side="right")
            read += batch.num_rows
            yield Block(
                pa.Table.from_batches([batch]), numbers, _rejections(rejected, table.delimiter)
            )
    if rejected := _take(invalid):
        empty = pa.table({name: pa.array([], pa.binary()) for name in columns})
        yield Block(empty, np.array([], np.int64), _rejections(rejected, table.delimiter))


def _take(rows: list[pyarrow.csv.InvalidRow]) -> list[pyarrow.csv.InvalidRow]:
    """Empties a list to which another thread appends, without losing rows added meanwhile."""
    taken = rows[:]
    del rows[: len(taken)]
    return taken


def _batches(reader: pyarrow.csv.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            yield reader.read_next_batch()
        except StopIteration:
            return


def _rejections(invalid: list[pyarrow.csv.InvalidRow], delimiter: str) -> list[RejectedRow]:
    rejections = []
    for row in invalid:
        lines = row.text.replace(_UNIT_SEPARATOR.decode(), delimiter).splitlines() or [""]
        # An unclosed quote takes in the lines after it. Each of them is lost and counted.
        reason = "wrong_number_of_columns" if len(lines) == 1 else "unclosed_quote"
        rejections += [RejectedRow(reason, row.number + n, line) for n, line in enumerate(lines)]
    return rejections


def _read_parquet(
    file: _LocalFile, table: TableConfig, columns: list[str], ids: set[str]
) -> Iterator[Block]:
    del table, ids  # the schema says whether ids are lists
    read = 0
    parquet = pyarrow.parquet.ParquetFile(file.path)
    for batch in parquet.iter_batches(_PARQUET_ROWS, columns=columns):
        numbers = np.arange(read + 1, read + 1 + batch.num_rows)
        read += batch.num_rows
        yield Block(pa.Table.from_batches([batch]).select(columns), numbers)


def _read_jsonl(
    file: _LocalFile, table: TableConfig, columns: list[str], ids: set[str]
) -> Iterator[Block]:
    del table
    number = 0
    with _open(file) as stream:
        text = io.BufferedReader(stream, BLOCK_BYTES)
        while lines := text.readlines(BLOCK_BYTES):
            values: dict[str, list[Any]] = {name: [] for name in columns}
            numbers: list[int] = []
            rejected: list[RejectedRow] = []
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = _json_object(line)
                if row is None:
                    rejected.append(_rejected_json(number, line))
                    continue
                if any(isinstance(row.get(name), list | dict) for name in ids):
                    rejected.append(RejectedRow("id_not_single", number, line.decode().strip()))
                    continue
                numbers.append(number)
                for name in columns:
                    values[name].append(row.get(name))
            arrays = {name: _json_column(cells) for name, cells in values.items()}
            yield Block(pa.table(arrays), np.array(numbers, np.int64), rejected)


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _rejected_json(number: int, line: bytes) -> RejectedRow:
    raw = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        line.decode()
    except UnicodeDecodeError:
        return RejectedRow("not_utf8", number, raw)
    return RejectedRow("unparsable_json", number, raw)


def _json_column(cells: list[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass  # a column with values of several types is read as text
    texts = [
        cell if cell is None or isinstance(cell, str) else orjson.dumps(cell).decode()
        for cell in cells
    ]
    return pa.array(texts, pa.string())
