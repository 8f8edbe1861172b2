"""Measures how often real logs trip the guard rails on data, unchanged and with faults.

    python -m benchmarks.guard_rails --config configs/completejourney.yaml --days 1
    python -m benchmarks.guard_rails --config configs/movielens-100k.yaml --days 7

The log is cut into spans of the given number of days, and every span that has a whole window before
it is judged against that window with the default limits: once unchanged, which should trip nothing,
and once with each of several faults, which should trip the guard rail named for it.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems
from rich.console import Console
from rich.table import Table

from benchmarks.replay import events_of
from components.data_gate.config import DataRailsConfig
from components.data_gate.rails import judge_spans
from components.example_gen.config import InteractionsConfig
from components.example_gen.forgotten import NOBODY
from components.example_gen.reading import keep_spans
from components.example_gen.span_measures import COMPARED_SPANS, SpanMeasures, measure
from components.example_gen.span_store import StoredFile, stored_file
from contract.guard_rails import Finding

_LONG_AGO = 2**40  # so that no event lies in the future
_DAY_SECONDS = 86_400
_READING = InteractionsConfig(
    files=("unused/{SPAN}",), user_column="user", item_column="item", timestamp_column="time"
)
# Takes the newest span and the one before it; returns the span with the fault.
Fault = Callable[[pa.Table, pa.Table], pa.Table]


def _with(events: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return events.set_column(events.schema.get_field_index(column), column, values)


def _half_missing(events: pa.Table, before: pa.Table) -> pa.Table:
    return events.take(pa.array(np.arange(0, len(events), 2)))


def _delivered_five_times(events: pa.Table, before: pa.Table) -> pa.Table:
    again = [_with(events, "time", pc.add(events["time"], seconds)) for seconds in range(5)]
    return pa.concat_tables(again)


def _other_item_ids(events: pa.Table, before: pa.Table) -> pa.Table:
    return _with(events, "item", pc.binary_join_element_wise("sku", _text(events, "item"), "-"))


def _other_user_ids(events: pa.Table, before: pa.Table) -> pa.Table:
    return _with(events, "user", pc.binary_join_element_wise("id", _text(events, "user"), "-"))


def _items_permuted(events: pa.Table, before: pa.Table) -> pa.Table:
    # Popular and unpopular items change places, as if the rows of the catalogue had moved.
    both = pa.concat_tables([before, events])
    known = _text(both, "item").combine_chunks().unique()
    place = pc.index_in(_text(events, "item"), value_set=known).to_numpy()
    order = np.random.default_rng(1).permutation(len(known))
    return _with(events, "item", known.take(pa.array(order[place])))


def _one_busy_person(events: pa.Table, before: pa.Table) -> pa.Table:
    rows = np.random.default_rng(2).integers(0, len(events), 20_000)
    bot = _with(events.take(pa.array(rows)), "user", pa.array(["bot"] * len(rows)))
    return pa.concat_tables([_with(events, "user", _text(events, "user")), bot])


def _clock_stands_still(events: pa.Table, before: pa.Table) -> pa.Table:
    first = before["time"][0].as_py()
    return _with(events, "time", pa.array(np.full(len(events), first)))


def _copy_of_the_span_before(events: pa.Table, before: pa.Table) -> pa.Table:
    return before


_FAULTS: dict[Fault, str] = {
    _half_missing: "least_events",
    _delivered_five_times: "most_events",
    _other_item_ids: "new_items",
    _other_user_ids: "new_people",
    _items_permuted: "item_drift",
    _one_busy_person: "busiest_person",
    _clock_stands_still: "early_events",
    _copy_of_the_span_before: "repeated_events",
}


def _text(events: pa.Table, column: str) -> pa.ChunkedArray:
    return events[column].cast(pa.string())


def calendar_spans(events: pa.Table, days: float) -> Iterator[tuple[int, pa.Table]]:
    """Cuts events into spans of ``days`` days, numbered from 1; empty ones are left out."""
    time = events["time"].to_numpy()
    span = ((time - time[0]) // (days * _DAY_SECONDS)).astype(int)
    found, begins = np.unique(span, return_index=True)
    for number, begin, end in zip(found + 1, begins, [*begins[1:], len(span)], strict=True):
        yield int(number), events.slice(begin, end - begin)


def keep(folder: Path, spans: Sequence[tuple[str, pa.Table]]) -> list[StoredFile]:
    """Reads spans as ExampleGen does."""
    kept = []
    for place, (name, events) in enumerate(spans):
        path = folder / str(place) / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        pa.parquet.write_table(events, path)
        (file,) = FileSystems.match([str(path)])[0].metadata_list
        kept.append(stored_file(str(folder / "kept"), name, file, _READING, ""))
    with beam.Pipeline(argv=["--runner=DirectRunner"]) as pipeline:
        keep_spans(pipeline, kept, _READING, NOBODY, str(folder / "unreadable.json"))
    return kept


def judge(files: Sequence[StoredFile]) -> tuple[SpanMeasures, list[Finding]]:
    """Measures the newest of some spans and judges it by the default limits."""
    measures = measure(files, now=_LONG_AGO)
    return SpanMeasures(**measures[-1]), judge_spans(measures, DataRailsConfig())


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the rails that tripped, the ranges of the measured values, and the detected faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/movielens-100k.yaml")
    parser.add_argument("--days", type=float, default=7.0, help="length of a span")
    parser.add_argument(
        "--window", type=int, default=COMPARED_SPANS + 1, help="spans before the one judged"
    )
    parser.add_argument("--every", type=int, default=1, help="put faults into every n-th span")
    flags = parser.parse_args(argv)
    spans = list(calendar_spans(events_of(flags.config), flags.days))
    newest = range(flags.window, len(spans))
    with tempfile.TemporaryDirectory() as work:
        clean = keep(Path(work) / "clean", [(str(number), part) for number, part in spans])
        judged = [judge(clean[n - flags.window : n + 1]) for n in newest]
        wrong = [n for n in newest if not (n - newest[0]) % flags.every]
        cases = [(fault, n) for fault in _FAULTS for n in wrong]
        faulty = keep(
            Path(work) / "faulty",
            [(str(spans[n][0]), fault(spans[n][1], spans[n - 1][1])) for fault, n in cases],
        )
        caught = {
            (fault, n): judge([*clean[n - flags.window : n], file])[1]
            for (fault, n), file in zip(cases, faulty, strict=True)
        }
    table = Table("guard rail", "spans judged", "spans hit", "which")
    for rail in DataRailsConfig().actions():
        found = [(span.name, f) for span, findings in judged for f in findings if f.rail == rail]
        hit = [name for name, finding in found if finding.tripped]
        if found:
            table.add_row(rail, str(len(found)), str(len(hit)), " ".join(hit[:8]))
    Console().print(f"{len(judged)} spans of {flags.days:g} days of {flags.config}", table)
    table = Table("measure", "smallest", "median", "largest")
    for name in (
        "events",
        "new_item_share",
        "new_people_share",
        "busiest_person",
        "item_drift",
        "activity_drift",
        "gap_drift",
    ):
        values = sorted(getattr(span, name) for span, _ in judged)
        table.add_row(name, *(f"{values[n]:.4g}" for n in (0, len(values) // 2, -1)))
    Console().print(table)
    table = Table("fault", "spans", "named rail", "caught by it", "stopped by any")
    for fault, rail in _FAULTS.items():
        findings = [found for (other, _), found in caught.items() if other is fault]
        by_rail = sum(any(f.rail == rail and f.tripped for f in found) for found in findings)
        by_any = sum(any(f.tripped and f.stops for f in found) for found in findings)
        name = fault.__name__.strip("_").replace("_", " ")
        table.add_row(name, str(len(findings)), rail, str(by_rail), str(by_any))
    Console().print(table)


if __name__ == "__main__":
    main()
