"""Searches files for ids, byte by byte, including compressed files.

The way a file is read depends on its first bytes, not on its name:

- gzip is decompressed. Parquet files, Arrow streams and TensorFlow checkpoints are parsed, and an
  id is found if a cell or an element equals it.
- Everything else is searched as it is. In text, an id counts if it is not a part of a longer word.
  In binary files, it also counts if it is a whole field of a protocol buffer, or if its length
  precedes it, whatever bytes surround it.
- Ids of fewer than ``SHORT`` bytes, such as ``7``, occur by chance in numbers and between other
  bytes. They count only as a whole value: a line, a quoted text, the text of an HTML element, a
  cell, or a field.

SQLite does not mark where a value begins and ends, and keeps deleted values. In its files an id
counts wherever its bytes occur, and short ids are not searched for.
"""

import gzip
import html
import json
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

SHORT = 4

_BLOCK = 1 << 24
_COUNT = struct.Struct("<Q")
_PROBE = 1 << 16
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_ARROW_STREAM = b"\xff\xff\xff\xff"
_SQLITE = b"SQLite format 3\0"
_CHECKPOINT_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
# Bytes that never occur in text, unlike tabs, line breaks, form feeds and escapes.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1e\x7f]")
_WORD = rb"[0-9A-Za-z_\x80-\xff]"
# First byte of a protocol buffer field that holds a text, for field numbers 1 to 15.
_TEXT_FIELD = rb"[\x0a\x12\x1a\x22\x2a\x32\x3a\x42\x4a\x52\x5a\x62\x6a\x72\x7a]"
# In a graph, only constants are searched: names of its nodes and objects contain numbers too.
_CONSTANT_FIELD = rb"\x42"
_GRAPH = "saved_model.pb"


class IdScan:
    """Searches for given ids.

    Args:
      ids: The ids to search for; must not be empty strings.
    """

    def __init__(self, ids: Collection[str]):
        self._ids = frozenset(ids)
        self._encoded = frozenset(text.encode() for text in ids)
        long = [text for text in self._ids if len(text.encode()) >= SHORT]
        short = [text for text in self._ids if len(text.encode()) < SHORT]
        words = [
            rb"(?<!" + _WORD + rb")" + before + rb"(?:" + _any(texts) + rb")(?!" + _WORD + rb")"
            for before, texts in (
                (rb"", [text for text in long if not text[0].isdigit()]),
                # The number 0.0417 does not contain the id 0417.
                (rb"(?<![0-9]\.)", [text for text in long if text[0].isdigit()]),
            )
            if texts
        ]
        whole = _any(short)
        values = (
            [
                rb'(?<=["\'>])(?:' + whole + rb")(?=[\"'<])",
                rb"(?<![^\n])(?:" + whole + rb")(?=\r?(?:\n|\Z))",
            ]
            if short
            else []
        )
        self._text = _pattern([*words, *values])
        self._binary = _pattern([*words, self._fields(_TEXT_FIELD), *self._counted()])
        self._graph = _pattern([*words, self._fields(_CONSTANT_FIELD)])
        self._anywhere = _pattern([_any(long)] if long else [])
        longest = max((len(form) for text in self._ids for form in _forms(text)), default=0)
        # The bytes before and after an id that a pattern inspects.
        self._overlap = longest + 2 * _COUNT.size + 8

    def finds_in(self, path: Path) -> bool:
        """Whether a file contains any of the ids.

        Raises:
          OSError: the file cannot be read.
        """
        with path.open("rb") as file:
            head = file.read(_PROBE)
            file.seek(0)
            if head.startswith(_GZIP):
                return self._in_gzip(file)
            if head.startswith(_PARQUET):
                return self._in_batches(pyarrow.parquet.ParquetFile(file).iter_batches())
            if head.startswith(_ARROW_STREAM):
                with pa.ipc.open_stream(file) as stream:
                    return self._in_batches(stream)
            if head.startswith(_SQLITE):
                return self._in_stream(file, self._anywhere)
            if path.suffix == ".index" and list(path.parent.glob(f"{path.stem}.data-*")):
                return self._in_checkpoint(path.with_suffix(""))
            if _CHECKPOINT_SHARD.search(path.name):
                index = path.parent / f"{_CHECKPOINT_SHARD.sub('', path.name)}.index"
                if index.exists():  # read with its index
                    return False
            if path.name == _GRAPH:
                return self._in_stream(file, self._graph)
            return self._in_stream(file, self._text if _is_text(head) else self._binary)

    def is_in_value(self, value: Any) -> bool:
        """Whether any text in a JSON value is one of the ids."""
        if isinstance(value, dict):
            return any(self.is_in_value(part) for pair in value.items() for part in pair)
        if isinstance(value, list):
            return any(map(self.is_in_value, value))
        return isinstance(value, str) and value in self._ids

    def _fields(self, first_byte: bytes) -> bytes:
        """Returns a pattern for an id that is a whole field of a protocol buffer."""
        fields = [_varint(len(encoded)) + encoded for encoded in sorted(self._encoded)]
        return first_byte + rb"(?:" + rb"|".join(map(re.escape, fields)) + rb")"

    def _counted(self) -> Iterator[bytes]:
        """Yields patterns for an id preceded by its length, with at most one number in between.

        Transform's cache of its analyses stores ids like this: two lengths, the id, its count.
        """
        for length in sorted({len(encoded) for encoded in self._encoded}):
            ids = sorted(encoded for encoded in self._encoded if len(encoded) == length)
            yield (
                re.escape(_COUNT.pack(length))
                + rb".{0,%d}(?:" % _COUNT.size
                + rb"|".join(map(re.escape, ids))
                + rb")"
            )

    def _in_gzip(self, file: IO[bytes]) -> bool:
        try:
            with gzip.open(file) as stream:
                head = stream.read(_PROBE)
            file.seek(0)
            with gzip.open(file) as stream:
                return self._in_stream(stream, self._text if _is_text(head) else self._binary)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"not complete: {error}") from error

    def _in_stream(self, stream: Any, pattern: re.Pattern[bytes] | None) -> bool:
        if pattern is None:
            return False
        kept, block = b"", stream.read(_BLOCK)
        while block:
            text, following = kept + block, stream.read(_BLOCK)
            for match in pattern.finditer(text):
                # At the edge of a block, the neighbouring bytes are unknown; the next block shows
                # them.
                if (match.start() or not kept) and (match.end() < len(text) or not following):
                    return True
            kept, block = text[-self._overlap :], following
        return False

    def _in_batches(self, batches: Iterable[pa.RecordBatch]) -> bool:
        return any(self._in_array(column) for batch in batches for column in batch.columns)

    def _in_array(self, array: pa.Array) -> bool:
        kind = array.type
        if pa.types.is_dictionary(kind):
            return self._in_array(array.dictionary)
        if pa.types.is_struct(kind):
            return any(map(self._in_array, array.flatten()))
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return self._in_array(array.flatten())
        if pa.types.is_map(kind):
            return self._in_array(array.keys) or self._in_array(array.items)
        if not (pa.types.is_integer(kind) or _holds_text(kind)):
            return False
        values = array.unique().cast(pa.binary() if _holds_text(kind) else pa.string())
        return any(
            value in self._encoded or value in self._ids for value in values.to_pylist() if value
        )

    def _in_checkpoint(self, prefix: Path) -> bool:
        import tensorflow as tf  # takes seconds, and few files need it

        reader = tf.train.load_checkpoint(str(prefix))
        for name, kind in reader.get_variable_to_dtype_map().items():
            if kind == tf.string:
                value = reader.get_tensor(name)
                elements = value.ravel().tolist() if hasattr(value, "ravel") else [value]
                if not self._encoded.isdisjoint(elements):
                    return True
        return False


def _holds_text(kind: pa.DataType) -> bool:
    return any(
        holds(kind)
        for holds in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )


def _is_text(head: bytes) -> bool:
    if _CONTROL.search(head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The probe may end in the middle of a character.
        return error.start >= len(head) - 3 and len(head) == _PROBE
    return True


def _forms(text: str) -> set[bytes]:
    """Returns the spellings of ``text``: plain, in JSON, in HTML, and in text protocol buffers."""
    octal = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "\"'\\" else f"\\{byte:03o}"
        for byte in text.encode()
    )
    written = {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        html.escape(text),
        html.escape(text, quote=False),
        text.replace("&", "&amp;").replace("'", "&#39;").replace('"', "&#34;"),  # MarkupSafe
        octal,
    }
    return {form.encode() for form in written}


def _any(texts: Iterable[str]) -> bytes:
    forms = sorted({form for text in texts for form in _forms(text)})
    return rb"|".join(map(re.escape, forms))


def _pattern(alternatives: list[bytes]) -> re.Pattern[bytes] | None:
    return re.compile(rb"|".join(alternatives), re.DOTALL) if alternatives else None


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
