"""Shows the last runs of a pipeline: quality, drift, time, size, and outcome of each.

python -m report.history                              of configs/movielens-100k.yaml
python -m report.history --config shop.yaml -n 60 --html history.html
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline import config as config_lib
from pipeline.flags import DEFAULT_CONFIG, add_config_flags
from pipeline.output_layout import OutputLayout
from report import charts, summary_view
from report.run_history import Entry, read
from report.templating import environment

_TEMPLATE = "history.html.jinja"


# Columns that are left out at the terminal, where lines are short.
_ONLY_ON_THE_PAGE = ("training", "time", "size")


def columns(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Returns the runs, oldest first, as texts by column."""
    metric = next((entry.metric for entry in entries if entry.metric), "")
    label = summary_view.metric_label(metric) if metric else "metric"
    return {
        "run": [entry.finished[5:16].replace("T", " ") for entry in entries],
        "span": [entry.span for entry in entries],
        label: [_number(entry.values.get("mind")) for entry in entries],
        "pushed": [_number(entry.values.get("pushed")) for entry in entries],
        "item-kNN": [_number(entry.values.get("item_knn")) for entry in entries],
        "drift": [_number(entry.item_drift) for entry in entries],
        "training": [_training(entry) for entry in entries],
        "time": [summary_view.duration(entry.seconds) for entry in entries],
        "size": [
            "" if entry.version_bytes is None else summary_view.size(entry.version_bytes)
            for entry in entries
        ],
        "outcome": [f"{entry.outcome}: {entry.why}" for entry in entries],
    }


def table(entries: Sequence[Entry]) -> Table:
    """Returns the runs as table rows, oldest first."""
    shown = {
        name: cells for name, cells in columns(entries).items() if name not in _ONLY_ON_THE_PAGE
    }
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in shown:  # one line per run; the page shows the whole reason
        found.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in zip(*shown.values(), strict=True):
        found.add_row(*row)
    return found


def _training(entry: Entry) -> str:
    if entry.steps is None:
        return ""
    return f"{entry.steps:,} steps, {'warm' if entry.generation else 'from nothing'}"


def page(name: str, entries: Sequence[Entry]) -> str:
    """Renders the history as one self-contained HTML file."""
    found = columns(entries)
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            name=name,
            entries=entries,
            columns=list(found),
            rows=list(zip(*found.values(), strict=True)),
            charts=_charts(entries),
        )
    )


def _charts(entries: Sequence[Entry]) -> Mapping[str, Any]:
    evaluated = [entry for entry in entries if entry.values]
    if len(evaluated) < 2:
        return {}
    names = [entry.span or entry.finished[:10] for entry in evaluated]
    lines = {
        key: (label, [entry.values.get(key) for entry in evaluated])
        for key, label in summary_view.RANKERS.items()
    }
    quality = charts.lines_over_runs(lines, names, summary_view.metric_label(evaluated[-1].metric))
    seconds = {"mind": ("Time of the run", [entry.seconds for entry in evaluated])}
    return {
        "Quality on the newest span": quality,
        "Seconds of a run": charts.lines_over_runs(seconds, names, "seconds"),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table, and writes the page if requested."""
    parser = argparse.ArgumentParser(
        prog="python -m report.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(parser)
    parser.add_argument("--output_dir", help="root directory of the runs' outputs")
    parser.add_argument("-n", type=int, default=30, help="number of runs to show")
    parser.add_argument("--html", type=Path, help="also write a page with plots to this file")
    flags = parser.parse_args(argv)
    try:
        config = config_lib.load(
            flags.config or DEFAULT_CONFIG, flags.overrides, {"output_dir": flags.output_dir}
        )
    except config_lib.ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    path = OutputLayout(Path(config.output_dir).resolve(), config.name).history
    entries = read(path)[-flags.n :]
    if not entries:
        print(f"No run of {config.name!r} has ended yet: {path} does not exist.", file=sys.stderr)
        return 1
    Console().print(table(entries))
    if flags.html:
        flags.html.write_text(page(config.name, entries), encoding="utf-8")
        print(f"Page      {flags.html}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
