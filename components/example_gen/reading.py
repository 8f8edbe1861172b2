"""The Beam stages that read the files of a table, and those that keep the events of spans."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from components.example_gen import rows
from components.example_gen.arrow_bytes import pack
from components.example_gen.config import InteractionsConfig
from components.example_gen.errors import DataError
from components.example_gen.forgotten import Forgotten
from components.example_gen.ingestion import BAD, REPORT, Ingestion, Part
from components.example_gen.readers import read_blocks
from components.example_gen.report import FORGOTTEN, Report, merge, to_json
from components.example_gen.rows import ID, ITEM, TIME, USER, CheckedRows
from components.example_gen.shards import write_text
from components.example_gen.span_store import StoredFile
from components.example_gen.text import hash_text

_NAMESPACE = "InteractionExampleGen"


def keep_spans(
    pipeline: beam.Pipeline,
    files: list[StoredFile],
    config: InteractionsConfig,
    forgotten: Forgotten,
    report_path: str,
) -> None:
    """Reads files of spans and stores their events for later runs.

    Args:
      pipeline: An empty pipeline.
      files: The files whose events are not stored yet.
      config: How the files are read.
      forgotten: People and items that are left out.
      report_path: Path of a report (JSON) of the files that cannot be read.
    """
    _ = (
        pipeline
        | "NewFiles" >> beam.Create(files)
        | "Distribute" >> beam.Reshuffle()
        | "Keep" >> beam.ParDo(_Keep(config, forgotten))
        | "MergeReports" >> beam.CombineGlobally(merge)
        | "WriteReport" >> beam.Map(lambda report: write_text(report_path, to_json(report)))
    )


def read_table(pipeline: beam.Pipeline, job: Ingestion, table: str) -> Any:
    """Reads a table.

    Returns:
      The rows by bucket as the main output, and the bad rows and the reports as tagged outputs;
      None if the configuration does not have the table.
    """
    if table not in job.files:
        return None
    kept = bool(job.stored) and table == "interactions"
    stage: beam.DoFn = _ReadKept(job) if kept else _Read(job, table)
    files = job.stored if kept else job.files[table]
    return (
        pipeline
        | f"Files[{table}]" >> beam.Create(list(enumerate(files)))
        | f"Distribute[{table}]" >> beam.Reshuffle()
        | f"Read[{table}]" >> beam.ParDo(stage).with_outputs(BAD, REPORT, main="main")
    )


def no_parts(pipeline: beam.Pipeline, label: str) -> beam.PCollection:
    """Returns a table without rows."""
    return pipeline | label >> beam.Create([], reshuffle=False).with_output_types(Part)


def by_bucket(table: pa.Table, key: str, num_buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Divides a table into buckets by the hash of its column ``key``; rows keep their order."""
    if not table.num_rows:
        return
    bucket = hash_text(table[key].combine_chunks()) % num_buckets
    order = np.argsort(bucket, kind="stable")
    bounds = np.searchsorted(bucket[order], np.arange(num_buckets + 1))
    ordered = table.take(pa.array(order))
    for number in range(num_buckets):
        begin, end = bounds[number], bounds[number + 1]
        if end > begin:
            yield number, ordered.slice(begin, end - begin)


def _interaction_parts(
    table: pa.Table, num_buckets: int, file_number: int, part_number: int
) -> Iterator[Part]:
    for bucket, part in by_bucket(table, USER, num_buckets):
        for column in (USER, ITEM):  # ids repeat, so dictionaries make the packed table small
            encoded = part[column].combine_chunks()
            if pa.types.is_dictionary(encoded.type):  # has the ids of the whole file; drop it
                encoded = encoded.dictionary_decode()
            part = part.set_column(
                part.schema.get_field_index(column), column, encoded.dictionary_encode()
            )
        yield bucket, (file_number, part_number, pack(part))


def _future_events(table: pa.Table, now: int, path: str) -> Iterator[TaggedOutput]:
    future = int((table[TIME].to_numpy() > now).sum())
    if future:
        yield TaggedOutput(REPORT, {"future_events": {path: future}})


def _count(table: str, num_read: int, bad: dict[str, int]) -> None:
    Metrics.counter(_NAMESPACE, f"{table}_read").inc(num_read)
    for reason, number in bad.items():
        Metrics.counter(_NAMESPACE, f"{table}_{reason}").inc(number)


@beam.typehints.with_input_types(tuple[int, str])
@beam.typehints.with_output_types(Part)
class _Read(beam.DoFn):
    """Reads a file, separates the bad rows and divides the others into buckets."""

    def __init__(self, job: Ingestion, table: str):
        self._config = getattr(job.data_config, table)
        self._table = table
        self._num_buckets = job.num_shards
        self._now = job.now
        self._forgotten = job.forgotten
        if table == "interactions":
            self._columns = rows.interaction_columns(self._config)
        else:
            self._columns = rows.entity_columns(self._config)

    def process(self, file: tuple[int, str]) -> Iterator[Any]:
        number, path = file
        check: Any = {
            "interactions": rows.check_interactions,
            "items": rows.check_items,
            "users": rows.check_users,
        }[self._table]
        try:
            for block in read_blocks(path, self._config, self._columns):
                checked = check(block, self._config, path, self._forgotten)
                yield from self._describe(checked, path)
                yield from self._part(checked, number)
        except DataError as error:
            # Not raised, because Beam would bury the message in its own stack trace.
            yield TaggedOutput(REPORT, {"unreadable": [str(error)]})

    def _describe(self, checked: CheckedRows, path: str) -> Iterator[Any]:
        counts: Report = {
            "read": checked.num_read,
            "bad": {reason: len(bad) for reason, bad in checked.bad.items()},
            "bad_examples": {reason: bad[:1] for reason, bad in checked.bad.items()},
        }
        if checked.num_forgotten:
            counts[FORGOTTEN] = checked.num_forgotten
        yield TaggedOutput(REPORT, {"tables": {self._table: counts}})
        if self._table == "interactions":
            yield from _future_events(checked.good, self._now, path)
        _count(self._table, checked.num_read, counts["bad"])
        for bad in checked.bad.values():
            for row in bad:
                yield TaggedOutput(BAD, row)

    def _part(self, checked: CheckedRows, number: int) -> Iterator[Part]:
        if self._table == "interactions":
            yield from _interaction_parts(
                checked.good, self._num_buckets, number, checked.first_row
            )
            return
        for bucket, part in by_bucket(checked.good, ID, self._num_buckets):
            yield bucket, (number, checked.first_row, pack(part))


@beam.typehints.with_input_types(StoredFile)
class _Keep(beam.DoFn):
    """Reads one file of a span, checks its rows and stores them."""

    def __init__(self, config: InteractionsConfig, forgotten: Forgotten):
        self._config = config
        self._forgotten = forgotten
        self._columns = rows.interaction_columns(config)

    def process(self, file: StoredFile) -> Iterator[Any]:
        try:
            file.write(
                rows.check_interactions(block, self._config, file.path, self._forgotten)
                for block in read_blocks(file.path, self._config, self._columns)
            )
        except DataError as error:
            yield {"unreadable": [str(error)]}


@beam.typehints.with_input_types(tuple[int, StoredFile])
@beam.typehints.with_output_types(Part)
class _ReadKept(beam.DoFn):
    """Reads the stored events of one file of a span and divides them into buckets."""

    def __init__(self, job: Ingestion):
        self._num_buckets = job.num_shards
        self._now = job.now

    def process(self, numbered: tuple[int, StoredFile]) -> Iterator[Any]:
        number, file = numbered
        counts = file.report()
        yield TaggedOutput(
            REPORT, {"tables": {"interactions": counts}, "spans": {file.span: counts}}
        )
        _count("interactions", counts["read"], counts["bad"])
        for row in file.bad_row_lines():
            yield TaggedOutput(BAD, row)
        for part_number, table in enumerate(file.events()):
            yield from _future_events(table, self._now, file.path)
            yield from _interaction_parts(table, self._num_buckets, number, part_number)
