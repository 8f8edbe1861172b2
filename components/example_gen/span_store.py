"""Stores the events of each span's files after they were read and checked.

A run with a window of 90 days then needs to read only the newest day. The events of each file
are stored in a directory of their own, whose name contains a digest of everything that they depend
on: the file's path and content, the configuration and the code that read it, and the list of
forgotten people and items. A file that was corrected or came late therefore has another directory
and is read; no other file is read again.
"""

import hashlib
import json
import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from tfx.dsl.io import fileio

from components.example_gen.arrow_bytes import IPC_OPTIONS
from components.example_gen.config import InteractionsConfig
from components.example_gen.files import digest
from components.example_gen.inputs import Inputs
from components.example_gen.report import FORGOTTEN, Report, from_json, to_json
from components.example_gen.rows import ITEM, TIME, USER, CheckedRows
from components.example_gen.shards import write_text
from contract.config_types import to_json as config_to_json

_EVENTS = "events.arrow"
_BAD_ROWS = "bad_rows.jsonl"
# Written last, so an entry without it is incomplete.
_REPORT = "report.json"
_ID = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema([(USER, _ID), (ITEM, _ID), (TIME, pa.int64())])


@dataclass(frozen=True)
class StoredFile:
    """One file of a span, and the directory in which its events are stored.

    Attributes:
      span: Name of the span.
      path: Path of the file.
      entry: Path of the directory.
    """

    span: str
    path: str
    entry: str

    def is_complete(self) -> bool:
        """Returns whether the file has been read and stored completely."""
        return fileio.exists(os.path.join(self.entry, _REPORT))

    def report(self) -> Report:
        """Returns the counts of the rows that were read."""
        with fileio.open(os.path.join(self.entry, _REPORT)) as file:
            return from_json(file.read())

    def bad_row_lines(self) -> Iterator[str]:
        """Yields the rows that could not be used, each as a JSON object."""
        with fileio.open(os.path.join(self.entry, _BAD_ROWS)) as file:
            for line in file:
                yield line.rstrip("\n")

    def events(self) -> Iterator[pa.Table]:
        """Yields the good rows, block by block, in the order of the file."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(self.entry, _EVENTS)
            if FileSystems.get_scheme(path):  # Arrow needs a local file, because it reads ahead
                path, remote = os.path.join(folder, _EVENTS), path
                fileio.copy(remote, path)
            with pa.OSFile(path) as file, pa.ipc.open_stream(file) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])

    def write(self, blocks: Iterable[CheckedRows]) -> None:
        """Stores the rows of a file.

        A worker that dies leaves an incomplete entry. Writing the same file again gives the same
        entry.
        """
        counts: dict[str, int] = {}
        examples: dict[str, list[str]] = {}
        num_read = num_forgotten = 0
        fileio.makedirs(self.entry)
        unfinished = f"{os.path.join(self.entry, _EVENTS)}-{uuid.uuid4().hex}"
        with tempfile.NamedTemporaryFile() as local, tempfile.NamedTemporaryFile("w") as bad_rows:
            with pa.ipc.new_stream(local, _SCHEMA, options=IPC_OPTIONS) as writer:
                for checked in blocks:
                    num_read += checked.num_read
                    num_forgotten += checked.num_forgotten
                    for reason, rows in checked.bad.items():
                        counts[reason] = counts.get(reason, 0) + len(rows)
                        examples.setdefault(reason, rows[:1])
                        bad_rows.writelines(f"{row}\n" for row in rows)
                    writer.write_batch(_encoded(checked.good))
            local.flush()
            bad_rows.flush()
            fileio.copy(local.name, unfinished)
            fileio.copy(bad_rows.name, os.path.join(self.entry, _BAD_ROWS), overwrite=True)
        fileio.rename(unfinished, os.path.join(self.entry, _EVENTS), overwrite=True)
        report: Report = {"read": num_read, "bad": counts, "bad_examples": examples}
        if num_forgotten:
            report[FORGOTTEN] = num_forgotten
        write_text(os.path.join(self.entry, _REPORT), to_json(report))


def _encoded(events: pa.Table) -> pa.RecordBatch:
    columns = [
        pa.concat_arrays(events[name].chunks or [pa.array([], events.schema.field(name).type)])
        for name in _SCHEMA.names
    ]
    columns = [
        column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
        for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


def stored_files(
    inputs: Inputs,
    config: InteractionsConfig,
    store: str,
    reading_digest: str,
    forgotten_digest: str = "",
) -> tuple[StoredFile, ...]:
    """Returns where the events of each interaction file of the window are, or will be, stored.

    Args:
      inputs: The inputs of the run; without a window the result is empty.
      config: How the files are read.
      store: Root directory of the store.
      reading_digest: Digest of the code that reads the files.
      forgotten_digest: Digest of the list of forgotten ids; empty if there is none.

    Raises:
      DataError: if a file cannot be read.
    """
    if inputs.window is None:
        return ()
    return tuple(
        stored_file(store, span.name, file, config, reading_digest, forgotten_digest)
        for span in inputs.window.spans
        for file in span.files
    )


def stored_file(
    store: str,
    span: str,
    file: FileMetadata,
    config: InteractionsConfig,
    reading_digest: str,
    forgotten_digest: str = "",
) -> StoredFile:
    """Returns where the events of ``file`` are, or will be, stored.

    Args:
      store: Root directory of the store.
      span: Name of the span.
      file: One of its files; it is read completely to compute its digest.
      config: How the file is read.
      reading_digest: Digest of the code that reads the file.
      forgotten_digest: Digest of the list of forgotten ids; empty if there is none.

    Raises:
      DataError: if the file cannot be read.
    """
    how = {
        key: value for key, value in json.loads(config_to_json(config)).items() if key != "files"
    }
    facts = json.dumps(
        [file.path, how, reading_digest, digest(file), forgotten_digest], sort_keys=True
    )
    key = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
    name = f"{posixpath.basename(file.path)}-{key}"
    return StoredFile(span, file.path, os.path.join(store, span, name))
