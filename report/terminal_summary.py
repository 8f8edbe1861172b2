"""The end-of-run summary for the terminal."""

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contract import manifest
from report import summary_view, training_view
from report.summary_view import QUANTITIES, RANKERS, SPLITS, Estimate

_LABEL_WIDTH = 11
_INTERVAL_WIDTH = 11  # a narrow terminal shows intervals below the values
_SHOWN_HISTORY = 5
_QUERY_ITEMS = 3  # items of the sample person's history in the example command


def render(
    summary: Mapping[str, Any], cutoffs: tuple[int, ...], exclude_history: bool
) -> RenderableType:
    """Renders what happened, in the order in which a reader asks; the outcome comes last.

    Args:
      summary: From ``run_summary.summarise``.
      cutoffs: N of the metrics; only the largest is shown.
      exclude_history: Determines which of the two rankings is the primary one.

    Returns:
      Something that ``Terminal.print`` prints at the terminal's width.
    """
    parts = [
        _data(summary["data"]),
        _metrics(summary, cutoffs[-1], exclude_history),
        _sample(summary["sample_people"]),
        _outcome(summary),
    ]
    shown = [part for part in parts if part is not None]
    return Group(*(line for part in shown for line in (part, Text())))


def _data(data: Mapping[str, Any] | None) -> RenderableType | None:
    if not data:
        return None
    events = f"{data['tables']['interactions']['read']:,} read, {data['events']['kept']:,} kept"
    dropped = summary_view.dropped_events(data)
    if dropped:
        events += "; not kept: " + ", ".join(f"{reason} {n:,}" for reason, n in dropped.items())
    splits = ", ".join(
        f"{data['splits'][name]['sequences']:,} {name}" for name in SPLITS if name in data["splits"]
    )
    window = summary_view.window(data)
    return _labelled(
        *([("Window", window)] if window else []),
        ("Events", events),
        ("People", f"{data['users']['kept']:,}; by split: {splits}"),
        ("Catalogue", f"{data['catalogue']['items']:,} items"),
        *(("Note", note) for note in summary_view.data_notes(data)),
    )


def _metrics(
    summary: Mapping[str, Any], cutoff: int, exclude_history: bool
) -> RenderableType | None:
    metrics = summary["metrics"]
    if "mind" not in metrics:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("Test split", no_wrap=True)
    names = [summary_view.metric_name(q, cutoff, not exclude_history) for q in QUANTITIES]
    for name in names:
        table.add_column(summary_view.metric_label(name), min_width=_INTERVAL_WIDTH)
    bounded = False
    for key, label in RANKERS.items():
        if key in metrics:
            found = [summary_view.estimate(metrics, key, name) for name in names]
            bounded |= any(e is not None and e.low is not None for e in found)
            table.add_row(label, *map(_interval, found), style="bold" if key == "mind" else "")
    lines: list[RenderableType] = [table]
    if bounded:
        lines.append(Text("value and its 95 % interval", style="dim"))
    for warning in summary_view.warnings(summary):
        lines.append(_labelled(("Warning", Text(warning, style="bold red"))))
    for note in (summary_view.not_counted(summary), *training_view.notes(summary)):
        if note:
            lines.append(_labelled(("Note", note)))
    return Group(*lines)


def _interval(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} {found.low:.3f}\N{EN DASH}{found.high:.3f}"


def _sample(people: list[Mapping[str, Any]] | None) -> RenderableType | None:
    if not people:
        return None
    person = people[0]
    hits = summary_view.hits(person)
    recent = _names(reversed(person["history"][-_SHOWN_HISTORY:]))
    intro = Text(
        f"Person {person['user_id']}, {person['history_length']:,} items, newest first: {recent} …"
    )
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True, style="cyan")
    rows.add_column()
    for group in person["interests"]:
        label = summary_view.interest_name(group["interest"])
        rows.add_row(f"  {label}", _names(group["items"], marked=hits))
    if hits:
        rows.add_row("", Text("* what the person really chose next", style="dim"))
    return Group(intro, rows)


def _names(items: Iterable[Mapping[str, Any]], marked: Iterable[str] = ()) -> str:
    return " · ".join(
        summary_view.item_name(item) + ("*" if item["item_id"] in marked else "") for item in items
    )


def _outcome(summary: Mapping[str, Any]) -> RenderableType:
    pushed = summary["push"]["pushed"]
    lines: list[RenderableType] = []
    if index := summary["index"]:
        latency = index["latency_ms"]
        found = (
            f"recall@{index['recall_k']} {index['recall']:.4f}, one request "
            f"{latency['p50']:.1f} ms (p99 {latency['p99']:.1f} ms), "
            f"{summary_view.size(index['bytes'])}"
        )
        if facts := summary["manifest"]:
            algorithm = summary_view.algorithm(facts[manifest.INDEX][manifest.ALGORITHM])
            found = f"{algorithm}: {found}"
            if saved := facts[manifest.INDEX].get(manifest.SEARCHES_SAVED):
                found += f", {saved:.0%} of the searches saved by merging similar interests"
        note = summary_view.index_note(summary)
        lines.append(_labelled(("Index", found), *([("Note", note)] if note else [])))
    verdict = Text(summary_view.verdict(summary), style="bold green" if pushed else "bold red")
    reasons = [("", reason) for reason in summary_view.why_not_pushed(summary)]
    if not pushed:
        reasons.append(("", "The model in service is unchanged."))
    lines.append(_labelled(("Result", verdict), *reasons))
    if pushed:
        lines.append(_copyable("Pushed to", summary["push"]["path"]))
        lines.append(_copyable("Serve it", _serve(summary["push"]["destination"])))
        lines.append(_copyable("Query it", _query(summary["sample_people"])))
    if removed := summary_view.removed(summary):
        lines.append(_labelled(("Removed", removed)))
    lines.append(_copyable("Time", summary_view.duration(summary["seconds"])))
    return Group(*lines)


def _serve(destination: str) -> str:
    # Not `make serve`, which serves the newest model of the default output directory.
    return f"{_python()} -m serving.server --model_base_path {shlex.quote(destination)}"


def _query(people: list[Mapping[str, Any]] | None) -> str:
    items = people[0]["history"][-_QUERY_ITEMS:] if people else []
    history = shlex.quote(",".join(item["item_id"] for item in items))
    return f"{_python()} -m serving.client --history {history} -k 10 --titles"


def _python() -> str:
    """Returns this interpreter, relative to the current directory if it is below it."""
    path = Path(sys.executable)
    return shlex.quote(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else sys.executable)


def _labelled(*rows: tuple[str, str | Text]) -> Table:
    """Creates rows of a label and a text that wraps beside it."""
    grid = Table.grid(padding=0)
    grid.add_column(width=_LABEL_WIDTH, no_wrap=True)
    grid.add_column()
    for label, text in rows:
        grid.add_row(label, text)
    return grid


def _copyable(label: str, text: str) -> Text:
    """Creates a line that is never wrapped, so that it can be copied."""
    return Text(f"{label:<{_LABEL_WIDTH}}{text}", no_wrap=True, overflow="ignore")
