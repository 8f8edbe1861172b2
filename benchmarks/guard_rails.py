"""How often the guard rails on data are hit by real logs that nothing is wrong with.

    python -m benchmarks.guard_rails --config configs/completejourney.yaml --days 1
    python -m benchmarks.guard_rails --config configs/movielens-100k.yaml --days 7

The log is cut into spans of so many days, and every span from the ninth on is judged against
the eight before it with the default limits.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

from benchmarks.replay import events_of
from components.data_gate.config import DATA_RAILS, DataRailsConfig
from components.data_gate.rails import judge_spans
from components.example_gen.config import InteractionsConfig, WindowConfig
from components.example_gen.forgotten import NOBODY
from components.example_gen.reading import keep_spans
from components.example_gen.span_measures import COMPARED_SPANS, SpanMeasures, measure
from components.example_gen.span_store import stored_file
from components.example_gen.spans import resolve_window
from contract.guard_rails import Finding

_WINDOW = COMPARED_SPANS + 2


def write_calendar(events: pa.Table, folder: Path, days: float) -> int:
    """Cuts events into spans of ``days`` days, numbered from 1; returns the number of spans."""
    folder.mkdir(parents=True)
    time = events["time"].to_numpy()
    span = ((time - time[0]) // (days * 86_400)).astype(int)
    found, begins = np.unique(span, return_index=True)
    for name, begin, end in zip(found + 1, begins, [*begins[1:], len(span)], strict=True):
        pa.parquet.write_table(events.slice(begin, end - begin), folder / f"{name}.parquet")
    return int(found[-1]) + 1


def judged_spans(config_file: str, days: float) -> tuple[list[list[Finding]], list[SpanMeasures]]:
    """The findings of every span that has a whole window behind it, and its measures."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "log"
        number = write_calendar(events_of(config_file), folder, days)
        config = InteractionsConfig(
            files=(f"{folder}/{{SPAN}}.parquet",),
            user_column="user",
            item_column="item",
            timestamp_column="time",
        )
        window = resolve_window(config, WindowConfig(spans=number, gaps="count"))
        kept = [
            stored_file(f"{work}/spans", span.name, file, config, "")
            for span in window.spans
            for file in span.files
        ]
        with beam.Pipeline(argv=["--runner=DirectRunner"]) as pipeline:
            keep_spans(pipeline, kept, config, NOBODY, f"{work}/unreadable.json")
        judged, measures = [], []
        for newest in range(_WINDOW - 1, len(kept)):
            found = measure(kept[newest - _WINDOW + 1 : newest + 1], now=2**40)
            judged.append(judge_spans(found, DataRailsConfig()))
            measures.append(SpanMeasures(**found[-1]))  # type: ignore[arg-type]
        return judged, measures


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the rails that were hit, and the ranges of what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/movielens-100k.yaml")
    parser.add_argument("--days", type=float, default=7.0, help="length of a span")
    flags = parser.parse_args(argv)
    judged, measures = judged_spans(flags.config, flags.days)
    table = Table("guard rail", "spans judged", "spans hit", "which")
    for rail in DATA_RAILS:
        found = [
            (span.name, finding)
            for span, findings in zip(measures, judged, strict=True)
            for finding in findings
            if finding.rail == rail
        ]
        hit = [name for name, finding in found if finding.tripped]
        if found:
            table.add_row(rail, str(len(found)), str(len(hit)), " ".join(hit[:8]))
    Console().print(f"{len(judged)} spans of {flags.days:g} days of {flags.config}", table)
    table = Table("measure", "smallest", "median", "largest")
    for name in ("events", "new_item_share", "new_people_share", "busiest_person"):
        values = sorted(getattr(span, name) for span in measures)
        table.add_row(name, *(f"{values[n]:g}" for n in (0, len(values) // 2, -1)))
    for name in ("item_drift", "activity_drift", "gap_drift"):
        values = sorted(getattr(span, name) for span in measures)
        table.add_row(name, *(f"{values[n]:.4f}" for n in (0, len(values) // 2, -1)))
    Console().print(table)


if __name__ == "__main__":
    main()
