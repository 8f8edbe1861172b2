"""The Beam stages of ExampleGen.

What travels between stages is never one event but a packed Arrow table (see
``arrow_bytes``) of the events of one block or of one bucket of people. A bucket is
what one worker holds at a time. Nothing is shared between stages but the elements,
and the files that the last ones write on the output's file system.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, TaggedOutput

from components.example_gen import events as event_ops
from components.example_gen import records, rows, splits
from components.example_gen.arrow_bytes import pack, unpack
from components.example_gen.config import DataConfig, ItemsConfig, UsersConfig
from components.example_gen.errors import DataError
from components.example_gen.events import Events
from components.example_gen.readers import read_blocks
from components.example_gen.report import Report, merge, to_json
from components.example_gen.rows import FEATURE_PREFIX, ID, ITEM, TIME, USER, CheckedRows
from components.example_gen.shards import shard_name, write_text, write_tfrecord
from components.example_gen.text import hash_text
from contract import features

_NAMESPACE = "InteractionExampleGen"
_COUNT = "count"
_BAD, _REPORT, _ITEMS, _TIMES = "bad", "report", "items", "times"

# (bucket, (number of the file, first row, packed table))
Part = tuple[int, tuple[int, int, bytes]]
# (bucket, packed table)
Bucket = tuple[int, bytes]


@dataclass(frozen=True)
class Ingestion:
    """All that the stages need to know.

    Attributes:
      data_config: Columns, filters and split.
      history_length: The model's; chunks of long sequences overlap by it.
      files: Resolved paths of each table.
      num_shards: Hash buckets of people, and of items; files per split.
      now: Seconds since 1970; what is later is counted as an event of the future.
      split_uris: Directory of each split.
      temp_uri: Directory of unfinished files, on the same file system.
      bad_rows_prefix: Where the bad rows go, without shard and extension.
    """

    data_config: DataConfig
    history_length: int
    files: dict[str, list[str]]
    num_shards: int
    now: int
    split_uris: dict[str, str]
    temp_uri: str
    bad_rows_prefix: str

    def write_shard(self, split: str, shard: int, examples: Iterable[bytes]) -> None:
        """Writes one file of a split."""
        path = os.path.join(self.split_uris[split], shard_name(shard, self.num_shards))
        write_tfrecord(path, examples, self.temp_uri)


def ingest(pipeline: beam.Pipeline, job: Ingestion, report_path: str) -> None:
    """Adds the whole ingestion to ``pipeline``.

    Args:
      pipeline: An empty pipeline.
      job: What to read and where to write.
      report_path: Where the merged report (JSON) is written.
    """
    config = job.data_config
    outputs = {name: _read(pipeline, job, name) for name in ("interactions", "items", "users")}
    reports = [out[_REPORT] for out in outputs.values() if out is not None]
    bad = [out[_BAD] for out in outputs.values() if out is not None]

    sorted_users = (
        outputs["interactions"].main
        | "GroupByUserBucket" >> beam.GroupByKey()
        | "Sort" >> beam.ParDo(_Sort(job)).with_outputs(_REPORT, _ITEMS, main="main")
    )
    frequent = (
        sorted_users[_ITEMS]
        | "GroupItemCounts" >> beam.GroupByKey()
        | "FrequentItems"
        >> beam.ParDo(_FrequentItems(config.min_item_interactions)).with_outputs(
            _REPORT, main="main"
        )
    )
    filtered = sorted_users.main | "Filter" >> beam.ParDo(
        _Filter(config), AsList(frequent.main)
    ).with_outputs(_REPORT, _TIMES, main="main")
    cuts = (
        filtered[_TIMES]
        | "GroupTimes" >> beam.GroupByKey()
        | "CutTimes" >> beam.Map(_cut_times, config.split.eval_fraction, config.split.test_fraction)
    )
    # Every shard is written, also one that nothing falls into.
    shards = pipeline | "Shards" >> beam.Create([(n, b"") for n in range(job.num_shards)])
    profiles = outputs["users"].main if outputs["users"] else _no_parts(pipeline, "NoProfiles")
    sequences = (
        {"events": filtered.main, "profiles": profiles, "shards": shards}
        | "JoinProfiles" >> beam.CoGroupByKey()
        | "WriteSequences"
        >> beam.ParDo(_WriteSequences(job), AsList(cuts)).with_outputs(_REPORT, _ITEMS, main="main")
    )
    items = outputs["items"].main if outputs["items"] else _no_parts(pipeline, "NoItems")
    catalogue = (
        {"trained": sequences[_ITEMS], "items": items, "shards": shards}
        | "JoinItems" >> beam.CoGroupByKey()
        | "WriteCatalogue" >> beam.ParDo(_WriteCatalogue(job))
    )
    _ = (
        bad
        | "BadRows" >> beam.Flatten()
        | "WriteBadRows"
        >> beam.io.WriteToText(job.bad_rows_prefix, ".jsonl", num_shards=1, skip_if_empty=True)
    )
    reports += [sorted_users[_REPORT], frequent[_REPORT], filtered[_REPORT], sequences[_REPORT]]
    _ = (
        [*reports, catalogue]
        | "Reports" >> beam.Flatten()
        | "MergeReports" >> beam.CombineGlobally(merge)
        | "WriteReport" >> beam.Map(lambda report: write_text(report_path, to_json(report)))
    )


def _read(pipeline: beam.Pipeline, job: Ingestion, table: str) -> Any:
    if table not in job.files:
        return None
    return (
        pipeline
        | f"Files[{table}]" >> beam.Create(list(enumerate(job.files[table])))
        | f"Distribute[{table}]" >> beam.Reshuffle()
        | f"Read[{table}]" >> beam.ParDo(_Read(job, table)).with_outputs(_BAD, _REPORT, main="main")
    )


def _no_parts(pipeline: beam.Pipeline, label: str) -> beam.PCollection:
    return pipeline | label >> beam.Create([], reshuffle=False).with_output_types(Part)


@beam.typehints.with_input_types(tuple[int, str])
@beam.typehints.with_output_types(Part)
class _Read(beam.DoFn):
    """Reads a file, sets bad rows apart, and parts the rest by bucket."""

    def __init__(self, job: Ingestion, table: str):
        self._config = getattr(job.data_config, table)
        self._table = table
        self._num_buckets = job.num_shards
        self._now = job.now
        if table == "interactions":
            self._columns = rows.interaction_columns(self._config)
            self._key = USER
        else:
            self._columns = rows.entity_columns(self._config)
            self._key = ID

    def process(self, file: tuple[int, str]) -> Iterator[Any]:
        number, path = file
        check: Any = {
            "interactions": rows.check_interactions,
            "items": rows.check_items,
            "users": rows.check_users,
        }[self._table]
        try:
            for block in read_blocks(path, self._config, self._columns):
                checked = check(block, self._config, path)
                yield from self._describe(checked, path)
                if checked.good.num_rows:
                    yield from self._part(checked, number)
        except DataError as error:
            # Not raised: Beam would bury the message in a stack of its own.
            yield TaggedOutput(_REPORT, {"unreadable": [str(error)]})

    def _describe(self, checked: CheckedRows, path: str) -> Iterator[Any]:
        counts = {
            "read": checked.num_read,
            "bad": {reason: len(bad) for reason, bad in checked.bad.items()},
            "bad_examples": {reason: bad[:1] for reason, bad in checked.bad.items()},
        }
        yield TaggedOutput(_REPORT, {"tables": {self._table: counts}})
        if self._table == "interactions":
            future = int((checked.good[TIME].to_numpy() > self._now).sum())
            if future:
                yield TaggedOutput(_REPORT, {"future_events": {path: future}})
        Metrics.counter(_NAMESPACE, f"{self._table}_read").inc(checked.num_read)
        for reason, bad in checked.bad.items():
            Metrics.counter(_NAMESPACE, f"{self._table}_{reason}").inc(len(bad))
            for row in bad:
                yield TaggedOutput(_BAD, row)

    def _part(self, checked: CheckedRows, file_number: int) -> Iterator[Part]:
        for bucket, part in _by_bucket(checked.good, self._key, self._num_buckets):
            if self._table == "interactions":  # ids repeat; packed, they then take little
                for column in (USER, ITEM):
                    encoded = part[column].dictionary_encode()
                    part = part.set_column(part.schema.get_field_index(column), column, encoded)
            yield bucket, (file_number, checked.first_row, pack(part))


@beam.typehints.with_input_types(tuple[int, Iterable[tuple[int, int, bytes]]])
@beam.typehints.with_output_types(Bucket)
class _Sort(beam.DoFn):
    """Sorts a bucket of people; counts its items."""

    def __init__(self, job: Ingestion):
        self._drop_duplicates = job.data_config.drop_duplicates
        self._num_buckets = job.num_shards

    def process(self, bucket: tuple[int, Iterable[tuple[int, int, bytes]]]) -> Iterator[Any]:
        number, parts = bucket
        events = event_ops.sort_events(_in_file_order(parts))
        repeated = event_ops.is_repeated(events)
        report = {
            "events": {
                "valid": len(events),
                "duplicates": int(repeated.sum()),
                "dropped_duplicates": 0,
            },
            "users": {"read": len(events.user_ids)},
        }
        if self._drop_duplicates and repeated.any():
            report["events"]["dropped_duplicates"] = int(repeated.sum())
            events = events.take(~repeated)
        yield TaggedOutput(_REPORT, report)
        counts = pa.table({ID: events.item_ids, _COUNT: event_ops.item_counts(events)})
        for shard, part in _by_bucket(counts, ID, self._num_buckets):
            yield TaggedOutput(_ITEMS, (shard, pack(part)))
        yield number, pack(events.to_table())


@beam.typehints.with_input_types(tuple[int, Iterable[bytes]])
@beam.typehints.with_output_types(bytes)
class _FrequentItems(beam.DoFn):
    """Adds up item counts and yields the items that have enough."""

    def __init__(self, min_count: int):
        self._min_count = min_count

    def process(self, shard: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        _, parts = shard
        counts = pa.concat_tables([unpack(part) for part in parts])
        total = counts.group_by(ID).aggregate([(_COUNT, "sum")])
        frequent = total.filter(pc.greater_equal(total[f"{_COUNT}_sum"], self._min_count))
        yield TaggedOutput(_REPORT, {"items": {"read": total.num_rows, "kept": frequent.num_rows}})
        yield pack(frequent.select([ID]))


@beam.typehints.with_input_types(Bucket, list[bytes])
@beam.typehints.with_output_types(Bucket)
class _Filter(beam.DoFn):
    """Drops rare items, then people with few events."""

    def __init__(self, config: DataConfig):
        self._min_items = config.min_item_interactions
        self._min_users = config.min_user_interactions
        self._count_times = config.split.protocol == "time"

    def process(self, bucket: Bucket, frequent: list[bytes]) -> Iterator[Any]:
        number, packed = bucket
        events = Events.from_table(unpack(packed))
        before = len(events)
        if self._min_items > 1:
            kept = pa.concat_tables([unpack(part) for part in frequent])
            events = event_ops.keep_items(events, kept[ID].combine_chunks())
        common = len(events)
        events = event_ops.keep_active_users(events, self._min_users)
        report: Report = {
            "events": {
                "dropped_rare_items": before - common,
                "dropped_inactive_users": common - len(events),
                "kept": len(events),
            },
            "users": {"kept": len(events.user_ids)},
        }
        if len(events):
            report["time"] = {"first": int(events.time.min()), "last": int(events.time.max())}
        yield TaggedOutput(_REPORT, report)
        if not len(events):
            return
        if self._count_times:
            times, counts = np.unique(events.time, return_counts=True)
            yield TaggedOutput(_TIMES, (0, pack(pa.table({TIME: times, _COUNT: counts}))))
        yield number, pack(events.to_table())


def _cut_times(
    grouped: tuple[int, Iterable[bytes]], eval_fraction: float, test_fraction: float
) -> tuple[int, int]:
    table = pa.concat_tables([unpack(part) for part in grouped[1]])
    times, inverse = np.unique(table[TIME].to_numpy(), return_inverse=True)
    counts = np.bincount(inverse, weights=table[_COUNT].to_numpy())
    return splits.cut_times(times, counts, eval_fraction, test_fraction)


class _WriteSequences(beam.DoFn):
    """Splits a bucket of people and writes its shard of train, eval and test."""

    def __init__(self, job: Ingestion):
        self._job = job

    def process(
        self, bucket: tuple[int, dict[str, Iterable[Any]]], cuts: list[tuple[int, int]]
    ) -> Iterator[Any]:
        shard, joined = bucket
        config = self._job.data_config
        packed = list(joined["events"])
        events = Events.from_table(unpack(packed[0])) if packed else event_ops.no_events()
        profiles, report = _entities(joined["profiles"], config.users, "users")
        if profiles is not None:
            profiles = records.lookup(events.user_ids, profiles)

        found = splits.split_events(events, config.split, cuts[0] if cuts else (0, 0))
        report["splits"] = splits.describe(events, found)
        trained = np.unique(events.item[found[features.TRAIN].positions()])
        found = splits.bound_length(found, config.max_sequence_length, self._job.history_length)
        for split, sequences in found.items():
            report["splits"][split]["rows"] = len(sequences)
            examples = records.sequence_examples(events, sequences, profiles, split)
            self._job.write_shard(split, shard, examples)
        yield TaggedOutput(_REPORT, report)

        items = pa.table({ID: events.item_ids.take(pa.array(trained))})
        for item_shard, part in _by_bucket(items, ID, self._job.num_shards):
            yield TaggedOutput(_ITEMS, (item_shard, pack(part)))


class _WriteCatalogue(beam.DoFn):
    """Writes a shard of the catalogue: the items file, and what else train holds."""

    def __init__(self, job: Ingestion):
        self._job = job

    def process(self, bucket: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Report]:
        shard, joined = bucket
        items, report = _entities(joined["items"], self._job.data_config.items, "items")
        trained = pa.concat_arrays(
            [pa.array([], pa.string())]
            + [unpack(part)[ID].combine_chunks() for part in joined["trained"]]
        ).unique()
        if items is None:
            items = pa.table({ID: pa.array([], pa.string())})
        listed = items[ID].combine_chunks()
        unlisted = trained.filter(pc.invert(pc.is_in(trained, value_set=listed)))
        unlisted = unlisted.take(pc.sort_indices(unlisted))
        ids = pa.concat_arrays([listed, unlisted])
        self._job.write_shard(
            features.CATALOG, shard, records.catalogue_examples(records.lookup(ids, items))
        )
        report["catalogue"] = {
            "items": len(ids),
            "trained": len(trained),
            "not_in_items_file": len(unlisted),
        }
        yield report


def _entities(
    parts: Iterable[tuple[int, int, bytes]], config: ItemsConfig | UsersConfig | None, name: str
) -> tuple[pa.Table | None, Report]:
    """The entity table of one bucket, if it has any row, and its counts."""
    tables = _in_file_order(parts)
    if config is None or not tables:
        return None, {}
    table, unparsable, repeated = records.entity_table(pa.concat_tables(tables), config.features)
    counts = {"duplicate_ids": repeated, "unparsable_numbers": unparsable}
    numbers = {
        feature: len(table[FEATURE_PREFIX + feature].combine_chunks().flatten())
        for feature, feature_config in config.features.items()
        if feature_config.kind == "numeric"
    }
    return table, {"tables": {name: counts}, "numbers": {name: numbers}}


def _by_bucket(table: pa.Table, key: str, num_buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Parts a table by the hash of its column ``key``, keeping the rows' order."""
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


def _in_file_order(parts: Iterable[tuple[int, int, bytes]]) -> list[pa.Table]:
    """Unpacks parts, which a shuffle may have put in any order."""
    return [unpack(packed) for _, _, packed in sorted(parts, key=lambda part: part[:2])]
