"""Replays a log span by span and measures what training every day costs and gains.

    python -m benchmarks.replay ingest --config configs/completejourney.yaml --spans 7 14 28
    python -m benchmarks.replay days --config configs/movielens-100k.yaml --spans 14 --days 5

``ingest`` runs ExampleGen for a window of n spans three times, each time in its own process:
when no span has been read before, when all but the newest have, and when all have.

``days`` runs the whole pipeline for each of the last days, once trained from scratch
every day and once by a warm start from the day before. Both see the same days: the
model of a day is trained on all spans before that day and evaluated on what people do
that day. The model pushed the day before is evaluated on the same people, which shows what
is lost without training.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
_METRICS = ("recall_at_50", "ndcg_at_50")
_COLUMNS = ("user", "item", "time")
# Runs in its own process, so that its CPU time is measured alone.
_INGEST = """
import sys
from benchmarks.replay import example_gen
example_gen(*sys.argv[1:])
"""


def events_of(config_file: str) -> pa.Table:
    """Returns the usable events of a log by time, with the columns ``user``, ``item``, ``time``."""
    from components.example_gen.inputs import find_inputs
    from components.example_gen.readers import read_blocks
    from components.example_gen.rows import check_interactions, interaction_columns
    from pipeline import config as config_lib

    data = config_lib.load(config_file).data
    columns = interaction_columns(data.interactions)
    parts = [
        check_interactions(block, data.interactions, file.path).good
        for file in find_inputs(data).files["interactions"]
        for block in read_blocks(file.path, data.interactions, columns)
    ]
    table = pa.concat_tables(parts).rename_columns(_COLUMNS)
    return table.take(pa.array(np.argsort(table["time"].to_numpy(), kind="stable")))


def write_spans(events: pa.Table, folder: Path, number: int) -> None:
    """Writes events as spans of about the same number of events each, numbered from 1.

    Args:
      events: Events in the order of their times.
      folder: The directory to create; the file of a span is ``SPAN.parquet``.
      number: Number of spans.
    """
    folder.mkdir(parents=True)
    time = events["time"].to_numpy()
    # Events with the same timestamp stay together.
    cuts = [int(np.searchsorted(time, time[len(time) * n // number])) for n in range(number)]
    for span, (begin, end) in enumerate(zip(cuts, [*cuts[1:], len(time)], strict=True), start=1):
        pa.parquet.write_table(events.slice(begin, end - begin), folder / f"{span}.parquet")


def overrides(folder: Path, spans: int) -> list[str]:
    """Returns the ``--set`` values with which a configuration reads the spans in ``folder``."""
    interactions = {
        "files": [f"{folder}/{{SPAN}}.parquet"],
        "user_column": "user",
        "item_column": "item",
        "timestamp_column": "time",
    }
    return [
        f"data.interactions={json.dumps(interactions)}",
        f"data.window={{spans: {spans}}}",
        "data.split.protocol=newest_span",
        "data.split.eval_fraction=0.3",
    ]


def example_gen(config_file: str, folder: str, spans: str, work: str) -> None:
    """Runs ExampleGen for a window of spans and prints its CPU-seconds.

    Args:
      config_file: File of the configuration.
      folder: Directory of the spans; see ``write_spans``.
      spans: Number of spans, all of which are in the window.
      work: Directory for the output; its ``spans`` keeps what was read of each span.
    """
    import apache_beam as beam
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts

    from components.example_gen.executor import Executor
    from contract.config_types import to_json
    from pipeline import config as config_lib

    config = config_lib.load(config_file, overrides(Path(folder), int(spans)))
    examples = standard_artifacts.Examples()
    examples.uri = tempfile.mkdtemp(dir=work)
    context = BaseBeamExecutor.Context(
        make_beam_pipeline_fn=lambda: beam.Pipeline(argv=["--runner=DirectRunner"])
    )
    before = _cpu(resource.RUSAGE_SELF)
    Executor(context).Do(
        {},
        {"examples": [examples]},
        {
            "data_config": to_json(config.data),
            "history_length": config.model.history_length,
            "span": spans,
            "bad_rows_dir": os.path.join(work, "bad"),
            "span_store": os.path.join(work, "spans"),
            "reading_digest": "",
        },
    )
    print(_cpu(resource.RUSAGE_SELF) - before)


def ingest(config_file: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Measures ExampleGen for each number of spans.

    Returns:
      For each number the ``spans``, the ``events``, and the ``cpu_seconds`` when ``everything``,
      only the ``newest span`` or ``nothing`` has to be read.
    """
    events = events_of(config_file)
    rows = []
    for number in numbers:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "log"
            write_spans(events, folder, number)
            cpu = {}
            for name in ("everything", "newest span", "nothing"):
                if name == "newest span":
                    shutil.rmtree(Path(work) / "spans" / str(number))
                command = [sys.executable, "-c", _INGEST, config_file, str(folder), str(number)]
                done = subprocess.run(
                    [*command, work], cwd=_ROOT, check=True, capture_output=True, text=True
                )
                cpu[name] = float(done.stdout.split()[-1])
            rows.append({"spans": number, "events": len(events), "cpu_seconds": cpu})
    return rows


def days(
    config_file: str, number: int, last: int, output: Path, settings: Sequence[str], warm: str
) -> Iterator[dict[str, Any]]:
    """Runs the pipeline for the last spans, trained from scratch and by a warm start.

    Args:
      config_file: File of the configuration.
      number: Number of spans into which the log is cut.
      last: Number of spans, the newest ones, for which the pipeline runs.
      output: Directory for the spans and the runs; it is deleted first.
      settings: Further ``--set`` values.
      warm: Value of ``training.warm_start`` for the warm start.

    Yields:
      The figures of one run.
    """
    folder = output / "log"
    shutil.rmtree(output, ignore_errors=True)
    write_spans(events_of(config_file), folder, number)
    modes = {"from nothing": [], "warm start": [f"training.warm_start={warm}"]}
    for span in range(number - last + 1, number + 1):
        for mode, more in modes.items():
            root = output / mode.replace(" ", "-")
            sets = [*overrides(folder, number), "evaluation.max_drop_from_pushed=1.0"]
            # In both modes every day's model is pushed, however good it is.
            sets += ["evaluation.min_lift_over_popularity=-1.0", *settings, *more]
            command = [sys.executable, "local_runner.py", f"--config={config_file}"]
            command += [f"--output_dir={root}", f"--span={span}", "--require_push"]
            before = _cpu(resource.RUSAGE_CHILDREN)
            with open(output / "log.txt", "a") as log:
                subprocess.run(
                    [*command, *(f"--set={value}" for value in sets)],
                    cwd=_ROOT,
                    check=True,
                    stdout=log,
                    stderr=log,
                )
            summary = json.loads(sorted(root.glob("runs/*/*/summary.json"))[-1].read_text())
            yield {
                "span": span,
                "mode": mode,
                "cpu_seconds": _cpu(resource.RUSAGE_CHILDREN) - before,
                "disk_bytes": sum(p.stat().st_size for p in root.rglob("*") if p.is_file()),
                **_of_summary(summary),
            }


def _of_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    training = summary["training"]
    return {
        "targets": summary["data"]["splits"]["test"]["targets"],
        "steps": training["steps"],
        "training_seconds": training["seconds"],
        "generation": (training["warm_start"] or {"generation": 0})["generation"],
        "metrics": {
            ranker: {
                name: metrics["overall"][name + suffix]["value"]
                for name in _METRICS
                for suffix in [summary["primary_metric"].removeprefix("recall_at_50")]
            }
            for ranker, metrics in summary["metrics"].items()
        },
    }


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _print_ingest(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("spans", "events", "all read", "newest read", "none read", "newest : all")
    for row in rows:
        cpu = row["cpu_seconds"]
        table.add_row(
            str(row["spans"]),
            f"{row['events']:,}",
            *(f"{seconds:.1f} s" for seconds in cpu.values()),
            f"{cpu['newest span'] / cpu['everything']:.2f}",
        )
    Console().print("CPU-seconds of ExampleGen, without the start of its process", table)


def _print_days(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(
        "span", "mode", "targets", "steps", "training", "CPU of the run", *_METRICS, "disk"
    )
    for row in rows:
        table.add_row(
            str(row["span"]),
            f"{row['mode']} ({row['generation']})",
            f"{row['targets']:,}",
            f"{row['steps']:,}",
            f"{row['training_seconds']:.0f} s",
            f"{row['cpu_seconds']:.0f} s",
            *(f"{row['metrics']['mind'][name]:.4f}" for name in _METRICS),
            f"{row['disk_bytes'] / 1e6:.0f} MB",
        )
    Console().print(table)
    modes = {
        mode: [r for r in rows if r["mode"] == mode] for mode in ("from nothing", "warm start")
    }
    # On its first day, a warm start also trains from scratch.
    days_of = {mode: found[1:] for mode, found in modes.items()}
    table = Table("mean of all days but the first", *_METRICS, "training seconds")
    for mode, found in days_of.items():
        means = [np.mean([r["metrics"]["mind"][name] for r in found]) for name in _METRICS]
        seconds = np.mean([r["training_seconds"] for r in found])
        table.add_row(mode, *(f"{mean:.4f}" for mean in means), f"{seconds:.0f}")
    found = days_of["warm start"]
    for ranker in ("pushed", "item_knn", "popularity"):
        means = [np.mean([r["metrics"][ranker][name] for r in found]) for name in _METRICS]
        label = "model of the day before" if ranker == "pushed" else ranker
        table.add_row(label, *(f"{mean:.4f}" for mean in means), "-")
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("ingest", "days"):
        command = commands.add_parser(name)
        command.add_argument("--config", default="configs/movielens-100k.yaml")
        command.add_argument("--json", default="", help="file for the figures")
    commands.choices["ingest"].add_argument("--spans", type=int, nargs="+", default=[7, 14, 28])
    days_parser = commands.choices["days"]
    days_parser.add_argument("--spans", type=int, default=14)
    days_parser.add_argument("--days", type=int, default=5)
    days_parser.add_argument(
        "--output", type=Path, required=True, help="directory for the runs; it is deleted first"
    )
    days_parser.add_argument("--set", action="append", default=[], dest="settings")
    days_parser.add_argument("--warm", default="{steps: 150}", help="value of training.warm_start")
    flags = parser.parse_args(argv)
    if flags.command == "ingest":
        rows = ingest(flags.config, flags.spans)
        _print_ingest(rows)
    else:
        rows = []
        for row in days(
            flags.config, flags.spans, flags.days, flags.output, flags.settings, flags.warm
        ):
            rows.append(row)
            print(json.dumps(row), flush=True)
        _print_days(rows)
    if flags.json:
        Path(flags.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
