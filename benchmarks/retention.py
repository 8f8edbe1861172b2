"""Measures the disk usage of the output directory, day after day.

    python -m benchmarks.retention --days 6 --runs 2 --versions 2

A log with planted interests grows by one span a day, and the whole pipeline runs once for each
span, with a short training. After each day the bytes of every part of the output directory are
measured. ``--runs 0 --versions 0`` keeps everything, for comparison.

Retention never removes versions younger than an hour. The days of this program last minutes, so
after each of them the pushed versions are dated back by a day.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
_NAME = "day-after-day"
_PEOPLE = 300
_TOPICS = 8
_ITEMS_PER_TOPIC = 25
_EVENTS_A_DAY = 6  # of each person
_WINDOW = 3
_STEPS = 60
_SECONDS_A_DAY = 86_400
_FIRST_SECOND = 1_700_000_000


def write_span(folder: Path, day: int) -> None:
    """Writes the events of one day, in which each person has items of the same two topics."""
    draw = np.random.default_rng(day)
    person = np.repeat(np.arange(_PEOPLE), _EVENTS_A_DAY)
    first, second = person % _TOPICS, (person // _TOPICS + person + 1) % _TOPICS
    topic = np.where(draw.random(len(person)) < 0.5, first, second)
    item = topic * _ITEMS_PER_TOPIC + draw.integers(_ITEMS_PER_TOPIC, size=len(person))
    table = pa.table(
        {
            "user": [f"person-{number:05d}" for number in person],
            "item": [f"item-{number:05d}" for number in item],
            "time": np.sort(draw.integers(_SECONDS_A_DAY, size=len(person)))
            + _FIRST_SECOND
            + day * _SECONDS_A_DAY,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(table, folder / f"{day}.parquet")


def write_config(path: Path, logs: Path, output: Path, retention: dict[str, Any]) -> None:
    """Writes a configuration whose training takes seconds."""
    config = {
        "name": _NAME,
        "output_dir": str(output),
        "data": {
            "interactions": {
                "files": [f"{logs}/{{SPAN}}.parquet"],
                "user_column": "user",
                "item_column": "item",
                "timestamp_column": "time",
            },
            "window": {"spans": _WINDOW},
            "split": {"protocol": "newest_span", "eval_fraction": 0.3},
        },
        "model": {"embedding_dim": 16, "num_interests": 2, "history_length": 20},
        "training": {
            "max_steps": _STEPS,
            "eval_every_steps": _STEPS // 2,
            "checkpoint_every_steps": _STEPS // 2,
            "batch_size": 128,
            "num_negatives": 64,
            "warm_start": {"steps": _STEPS // 2, "full_every": 14},
        },
        "evaluation": {
            "exclude_history": False,
            "max_drop_from_pushed": 1.0,
            "min_lift_over_popularity": -1.0,
        },
        "index": {"exclude_history": False, "num_queries": 50},
        "retention": retention,
    }
    path.write_text(json.dumps(config))  # JSON is YAML


def bytes_on_disk(output: Path) -> dict[str, int]:
    """Bytes of the files in each directory directly below ``output``."""
    return {
        part.name: sum(f.lstat().st_size for f in part.rglob("*") if f.is_file())
        for part in sorted(output.iterdir())
        if part.is_dir()
    }


def date_back(output: Path) -> None:
    """Makes every pushed version a day older."""
    for file in (output / "serving_models" / _NAME).glob("*/saved_model.pb"):
        pushed = file.stat().st_mtime - _SECONDS_A_DAY
        os.utime(file, (pushed, pushed))


def days(work: Path, number: int, retention: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs the pipeline for each of ``number`` days.

    Args:
      work: Directory for the logs, the configuration and the output.
      number: Number of days.
      retention: The configuration's ``retention``.

    Returns:
      For each day its number ``day``, the ``bytes`` of each part of the output directory, the
      number of bytes ``removed``, and ``failed``, what could not be removed and why.
    """
    logs, output, config = work / "logs", work / "output", work / "config.yaml"
    for day in range(1, _WINDOW):
        write_span(logs, day)
    write_config(config, logs, output, retention)
    rows = []
    for day in range(_WINDOW, _WINDOW + number):
        write_span(logs, day)
        subprocess.run(
            [sys.executable, str(_ROOT / "local_runner.py"), f"--config={config}", f"--span={day}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        date_back(output)
        newest = max((output / "runs" / _NAME).iterdir())
        summary = json.loads((newest / "summary.json").read_text())
        row = {
            "day": day,
            "bytes": bytes_on_disk(output),
            "removed": summary["removed"]["bytes"],
            "failed": summary["removed"]["failed"],
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the pipeline for each day and prints a table of the sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=6)
    parser.add_argument("--runs", type=int, default=2, help="retention.runs")
    parser.add_argument("--versions", type=int, default=2, help="retention.versions")
    flags = parser.parse_args(argv)
    keep = {"runs": flags.runs, "versions": flags.versions}
    with tempfile.TemporaryDirectory() as folder:
        rows = days(Path(folder), flags.days, keep)
    parts = sorted({part for row in rows for part in row["bytes"]})
    table = Table(title=f"kB on disk after each day, with retention {keep}")
    for column in ("day", *parts, "all", "removed"):
        table.add_column(column, justify="right")
    for row in rows:
        sizes = [row["bytes"].get(part, 0) for part in parts]
        cells = [*sizes, sum(sizes), row["removed"]]
        table.add_row(str(row["day"]), *(f"{cell / 1000:,.0f}" for cell in cells))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
