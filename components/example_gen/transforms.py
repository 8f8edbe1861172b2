"""The Beam stages that sort, filter, split and write; ``reading`` has those that read.

The elements passed between stages are not single events but packed Arrow tables (see
``arrow_bytes``) with the events of one block or of one bucket of people. A worker holds
one bucket at a time. Stages share nothing except these elements and the files that the
last ones write to the output's file system.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsList, TaggedOutput

from components.example_gen import events as event_ops
from components.example_gen import records, splits
from components.example_gen.arrow_bytes import pack, unpack
from components.example_gen.config import DataConfig, ItemsConfig, SplitConfig, UsersConfig
from components.example_gen.events import Events
from components.example_gen.ingestion import BAD, ITEMS, REPORT, TIMES, Ingestion
from components.example_gen.reading import by_bucket, no_parts, read_table
from components.example_gen.report import Report, merge, to_json
from components.example_gen.rows import FEATURE_PREFIX, ID, TIME
from components.example_gen.shards import write_text
from contract import features

_COUNT = "count"
_NEWEST = "newest"

# (bucket, packed table)
Bucket = tuple[int, bytes]


def ingest(pipeline: beam.Pipeline, job: Ingestion, report_path: str) -> None:
    """Adds the whole ingestion to ``pipeline``.

    Args:
      pipeline: An empty pipeline.
      job: What to read and where to write.
      report_path: Path of the merged report (JSON).
    """
    config = job.data_config
    outputs = {name: read_table(pipeline, job, name) for name in ("interactions", "items", "users")}
    reports = [out[REPORT] for out in outputs.values() if out is not None]
    bad = [out[BAD] for out in outputs.values() if out is not None]

    sorted_users = (
        outputs["interactions"].main
        | "GroupByUserBucket" >> beam.GroupByKey()
        | "Sort" >> beam.ParDo(_Sort(job)).with_outputs(REPORT, ITEMS, TIMES, main="main")
    )
    frequent = (
        sorted_users[ITEMS]
        | "GroupItemCounts" >> beam.GroupByKey()
        | "FrequentItems"
        >> beam.ParDo(_FrequentItems(config.min_item_interactions)).with_outputs(
            REPORT, main="main"
        )
    )
    filtered = sorted_users.main | "Filter" >> beam.ParDo(
        _Filter(config), AsList(frequent.main)
    ).with_outputs(REPORT, TIMES, main="main")
    cuts = (
        (filtered[TIMES], sorted_users[TIMES])
        | "Times" >> beam.Flatten()
        | "GroupTimes" >> beam.GroupByKey()
        | "CutTimes" >> beam.Map(_cut_times, config.split)
    )
    # These elements make sure that every shard is written, even an empty one.
    shards = pipeline | "Shards" >> beam.Create([(n, b"") for n in range(job.num_shards)])
    profiles = outputs["users"].main if outputs["users"] else no_parts(pipeline, "NoProfiles")
    sequences = (
        {"events": filtered.main, "profiles": profiles, "shards": shards}
        | "JoinProfiles" >> beam.CoGroupByKey()
        | "WriteSequences"
        >> beam.ParDo(_WriteSequences(job), AsList(cuts)).with_outputs(REPORT, ITEMS, main="main")
    )
    items = outputs["items"].main if outputs["items"] else no_parts(pipeline, "NoItems")
    catalogue = (
        {"trained": sequences[ITEMS], "items": items, "shards": shards}
        | "JoinItems" >> beam.CoGroupByKey()
        | "WriteCatalogue" >> beam.ParDo(_WriteCatalogue(job))
    )
    _ = (
        bad
        | "BadRows" >> beam.Flatten()
        | "WriteBadRows"
        >> beam.io.WriteToText(job.bad_rows_prefix, ".jsonl", num_shards=1, skip_if_empty=True)
    )
    reports += [sorted_users[REPORT], frequent[REPORT], filtered[REPORT], sequences[REPORT]]
    _ = (
        [*reports, catalogue]
        | "Reports" >> beam.Flatten()
        | "MergeReports" >> beam.CombineGlobally(merge)
        | "WriteReport" >> beam.Map(lambda report: write_text(report_path, to_json(report)))
    )


@beam.typehints.with_input_types(tuple[int, Iterable[tuple[int, int, bytes]]])
@beam.typehints.with_output_types(Bucket)
class _Sort(beam.DoFn):
    """Sorts the events of a bucket of people and counts the items in them."""

    def __init__(self, job: Ingestion):
        self._drop_duplicates = job.data_config.drop_duplicates
        self._num_buckets = job.num_shards
        self._count_newest = job.data_config.split.protocol == "newest_span"
        self._first_newest_file = job.first_newest_file

    def process(self, bucket: tuple[int, Iterable[tuple[int, int, bytes]]]) -> Iterator[Any]:
        number, grouped = bucket
        parts = list(grouped)
        if self._count_newest:
            for file, _, packed in parts:
                counts = _count_times(unpack(packed)[TIME].to_numpy())
                newest = counts[_COUNT] if file >= self._first_newest_file else None
                yield TaggedOutput(TIMES, (0, pack(_with_newest(counts, newest))))
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
        yield TaggedOutput(REPORT, report)
        counts = pa.table({ID: events.item_ids, _COUNT: event_ops.item_counts(events)})
        for shard, part in by_bucket(counts, ID, self._num_buckets):
            yield TaggedOutput(ITEMS, (shard, pack(part)))
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
        yield TaggedOutput(REPORT, {"items": {"read": total.num_rows, "kept": frequent.num_rows}})
        yield pack(frequent.select([ID]))


@beam.typehints.with_input_types(Bucket, list[bytes])
@beam.typehints.with_output_types(Bucket)
class _Filter(beam.DoFn):
    """Drops rare items, then people with few events, then old events of very active people."""

    def __init__(self, config: DataConfig):
        self._min_items = config.min_item_interactions
        self._min_users = config.min_user_interactions
        self._max_users = config.max_user_interactions
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
        active = len(events)
        events = event_ops.keep_newest(events, self._max_users)
        report: Report = {
            "events": {
                "dropped_rare_items": before - common,
                "dropped_inactive_users": common - active,
                "dropped_beyond_limit": active - len(events),
                "kept": len(events),
            },
            "users": {"kept": len(events.user_ids)},
        }
        if len(events):
            report["time"] = {"first": int(events.time.min()), "last": int(events.time.max())}
        yield TaggedOutput(REPORT, report)
        if not len(events):
            return
        if self._count_times:
            yield TaggedOutput(TIMES, (0, pack(_with_newest(_count_times(events.time), None))))
        yield number, pack(events.to_table())


def _count_times(times: np.ndarray) -> pa.Table:
    distinct, counts = np.unique(times, return_counts=True)
    return pa.table({TIME: distinct, _COUNT: counts})


def _with_newest(counts: pa.Table, newest: pa.ChunkedArray | None) -> pa.Table:
    """Adds a column with how many of the events at each time belong to the newest span."""
    if newest is None:
        newest = pa.array(np.zeros(len(counts), np.int64))
    return counts.append_column(_NEWEST, newest)


def _cut_times(grouped: tuple[int, Iterable[bytes]], config: SplitConfig) -> tuple[int, int]:
    table = pa.concat_tables([unpack(part) for part in grouped[1]])
    times, inverse = np.unique(table[TIME].to_numpy(), return_inverse=True)
    counts = np.bincount(inverse, weights=table[_COUNT].to_numpy())
    if config.protocol == "newest_span":
        cut = splits.last_events(times, counts, pc.sum(table[_NEWEST]).as_py())
        return cut, cut
    return splits.cut_times(times, counts, config.eval_fraction, config.test_fraction)


class _WriteSequences(beam.DoFn):
    """Splits the events of a bucket of people and writes a shard of every split of sequences."""

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
        if features.REST in self._job.split_uris:
            found[features.REST] = splits.untrained(
                events, found[features.TRAIN], self._job.history_length
            )
        report["splits"] = splits.describe(events, found)
        trained = np.unique(events.item[found[features.TRAIN].positions()])
        found = splits.bound_length(found, config.max_sequence_length, self._job.history_length)
        for split, sequences in found.items():
            report["splits"][split]["rows"] = len(sequences)
            examples = records.sequence_examples(events, sequences, profiles, split)
            self._job.write_shard(split, shard, examples)
        yield TaggedOutput(REPORT, report)

        items = pa.table({ID: events.item_ids.take(pa.array(trained))})
        for item_shard, part in by_bucket(items, ID, self._job.num_shards):
            yield TaggedOutput(ITEMS, (item_shard, pack(part)))


class _WriteCatalogue(beam.DoFn):
    """Writes a shard of the catalogue: the items of the items file and other items in train."""

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
    """Returns the entity table of one bucket (None without rows) and its counts."""
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


def _in_file_order(parts: Iterable[tuple[int, int, bytes]]) -> list[pa.Table]:
    """Unpacks parts in the order of the file; a shuffle may have changed their order."""
    return [unpack(packed) for _, _, packed in sorted(parts, key=lambda part: part[:2])]
