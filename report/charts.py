"""Charts of the report, as SVG that uses the page's theme.

Matplotlib draws the charts with placeholder colours, which are then replaced by the page's CSS
variables, and text remains text. A chart therefore follows the page's dark mode, uses its font, can
be searched and read aloud, and is small.
"""

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from contract.metric_names import PERSONAL_FREQUENCY, recent_popularity
from report.summary_view import Estimate

# Placeholder colours, which the style file also uses, and the page's variables for them.
INK, MUTED, _LINE, ACCENT = "#00000a", "#00000b", "#00000c", "#00000d"
_RANKER_COLORS = {
    "mind": ACCENT,
    "pushed": "#00001a",
    "item_knn": "#00001b",
    "popularity": "#00001c",
    recent_popularity(1): "#00001d",
    recent_popularity(7): "#00001e",
    PERSONAL_FREQUENCY: "#00001f",
}
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    _LINE: "--line",
    ACCENT: "--mind",
    _RANKER_COLORS["pushed"]: "--pushed",
    _RANKER_COLORS["item_knn"]: "--item-knn",
    _RANKER_COLORS["popularity"]: "--popularity",
    _RANKER_COLORS[recent_popularity(1)]: "--recent-1d",
    _RANKER_COLORS[recent_popularity(7)]: "--recent-7d",
    _RANKER_COLORS[PERSONAL_FREQUENCY]: "--personal",
}
_FONT = "DejaVu Sans"  # used to measure text; the page shows it in its own font
STYLE = Path(__file__).with_name("templates") / "report.mplstyle"
# Inches; the page shows one inch of a chart at about 107 pixels.
FULL_WIDTH = 9.0
_HALF_WIDTH = 4.4


@dataclasses.dataclass(frozen=True)
class Series:
    """Estimates of one ranker.

    Attributes:
      key: Ranker key, which selects the colour.
      label: Name in the legend.
      estimates: One per row of the chart; None where nothing was measured.
    """

    key: str
    label: str
    estimates: Sequence[Estimate | None]


def ranker_bars(series: Sequence[Series], metric: str) -> Markup:
    """Draws horizontal bars with 95 % intervals, one per ranker (the first estimate of each)."""
    shown = [(s, s.estimates[0]) for s in series]
    rows = [(s, found) for s, found in shown if found is not None]
    with style.context(STYLE):
        figure, axes = new_figure(FULL_WIDTH, 0.7 + 0.42 * len(rows))
        for row, (one, found) in enumerate(rows):
            axes.barh(row, found.value, height=0.58, color=_RANKER_COLORS[one.key], alpha=0.85)
            _interval(axes, found, row, INK)
            edge = found.high if found.high is not None else found.value
            axes.annotate(
                f"{found.value:.4f}",
                (edge, row),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold" if one.key == "mind" else "normal",
            )
        axes.set_yticks(range(len(rows)), [one.label for one, _ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12 * max(f.high if f.high is not None else f.value for _, f in rows))
        axes.grid(visible=False, axis="y")
        whiskers = any(found.low is not None for _, found in rows)
        axes.set_xlabel(f"{metric}, test split" + ("; lines: 95 % interval" if whiskers else ""))
        described = "; ".join(f"{one.label} {_spoken(found)}" for one, found in rows)
        return to_svg(figure, f"{metric} by model: {described}")


def slice_dots(series: Sequence[Series], rows: Sequence[str], title: str, metric: str) -> Markup:
    """Draws dots with 95 % intervals by slice, one dot per ranker and slice."""
    series = [s for s in series if any(s.estimates)]
    with style.context(STYLE):
        figure, axes = new_figure(_HALF_WIDTH, 1.2 + (0.12 + 0.13 * len(series)) * len(rows))
        spread = 0.16 * (len(series) - 1)
        for position, one in enumerate(series):
            color = _RANKER_COLORS[one.key]
            offset = -spread / 2 + 0.16 * position
            points = [(f, r + offset) for r, f in enumerate(one.estimates) if f is not None]
            for found, y in points:
                _interval(axes, found, y, color)
            axes.plot(
                [found.value for found, _ in points],
                [y for _, y in points],
                "o",
                markersize=5,
                color=color,
                label=one.label,
            )
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(title)
        axes.set_xlabel(metric)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8, handletextpad=0.1)
        described = "; ".join(
            f"{one.label}, {row}: {_spoken(found)}"
            for one in series
            for row, found in zip(rows, one.estimates, strict=True)
            if found is not None
        )
        return to_svg(figure, f"{title}. {metric}: {described}")


def training_curves(training: Mapping[str, Any], recall_label: str) -> Markup:
    """Draws loss, validation recall and interest diagnostics over the steps."""
    history = training["history"]
    panels = {
        "loss": "Training loss",
        "recall": f"Validation {recall_label}",
        "active_interests": "Active interests per person",
        "interest_cosine": "Mean cosine between interests",
    }
    # A warm start has no loss at step 0.
    known = {key: [entry for entry in history if key in entry] for key in panels}
    keys = [key for key in panels if known[key]]
    best = training["best_step"]
    with style.context(STYLE):
        rows = -(-len(keys) // 2)
        layout = ConstrainedLayoutEngine(h_pad=0.09, wspace=0.04)
        figure = Figure(figsize=(FULL_WIDTH, 2.0 * rows), layout=layout)
        grid = figure.subplots(rows, 2, squeeze=False, sharex=True)
        for key, axes in zip(keys, grid.flat, strict=False):
            steps = [entry["step"] for entry in known[key]]
            values = [entry[key] for entry in known[key]]
            axes.plot(steps, values, color=ACCENT, linewidth=1.6)
            if best in steps:
                at = values[steps.index(best)]
                axes.axvline(best, color=MUTED, linewidth=0.7, linestyle=(0, (3, 3)))
                axes.plot([best], [at], "o", color=ACCENT, markersize=5)
                axes.annotate(f"{at:.4g}", (best, at), xytext=(5, 5), textcoords="offset points")
            axes.set_title(panels[key])
            if key == "loss":
                axes.margins(y=0.22)
            else:
                axes.set_ylim(0, 1 if key == "interest_cosine" else 1.25 * max(values))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(axis="y", labelcolor=MUTED)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        for axes in list(grid.flat)[len(keys) :]:
            axes.set_visible(False)
        described = ", ".join(
            f"{panels[key]} from {known[key][0][key]:.4g} to {known[key][-1][key]:.4g}"
            for key in keys
        )
        last = history[-1]["step"]
        return to_svg(figure, f"Training over {last} steps, best at {best}: {described}")


def recall_latency(
    curve: Sequence[Mapping[str, float]],
    chosen: Mapping[str, Any],
    target: float | None,
    recall_label: str,
) -> Markup:
    """Draws recall against latency of the index settings tried, with the chosen one marked."""
    points = sorted(curve, key=lambda point: point["latency_ms"])
    settings = [key for key in ("reorder", "leaves_to_search") if key in chosen]
    marked = [point for point in points if all(point[key] == chosen[key] for key in settings)]
    with style.context(STYLE):
        figure, axes = new_figure(FULL_WIDTH, 2.6)
        latencies = [point["latency_ms"] for point in points]
        recalls = [point["recall"] for point in points]
        axes.vlines(
            latencies, [p["recall_lower"] for p in points], recalls, color=ACCENT, linewidth=1.2
        )
        axes.plot(latencies, recalls, "o", color=ACCENT, markersize=4.5, alpha=0.75)
        if target is not None:
            axes.axhline(target, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.annotate(
                f"target {target:g}",
                (1, target),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                color=MUTED,
            )
        for point in marked[:1]:
            at = (point["latency_ms"], point["recall"])
            axes.plot(*at, "o", markersize=11, markerfacecolor="none", markeredgecolor=INK)
            axes.annotate(
                "chosen", at, xytext=(8, 4), textcoords="offset points", fontweight="bold"
            )
        axes.set_xlim(left=0)
        axes.margins(y=0.12)
        axes.set_xlabel("milliseconds per search (median, one person)")
        axes.set_ylabel(recall_label)
        axes.tick_params(axis="y", labelcolor=MUTED)
        described = "; ".join(f"{p['latency_ms']:.2f} ms: {p['recall']:.4f}" for p in points)
        return to_svg(figure, f"{recall_label} by latency: {described}")


def lines_over_runs(
    lines: Mapping[str, tuple[str, Sequence[float | None]]], runs: Sequence[str], axis: str
) -> Markup:
    """Draws one line per ranker over the runs, oldest first.

    Args:
      lines: Name and one value per run, by ranker key; None leaves a gap.
      runs: Names of the runs.
      axis: Label of the values.
    """
    shown = {key: line for key, line in lines.items() if any(v is not None for v in line[1])}
    with style.context(STYLE):
        figure, axes = new_figure(FULL_WIDTH, 2.8)
        positions = range(len(runs))
        for key, (label, values) in shown.items():
            axes.plot(
                positions,
                [float("nan") if value is None else value for value in values],
                color=_RANKER_COLORS[key],
                label=label,
                linewidth=1.8 if key == "mind" else 1.1,
                marker="o",
                markersize=3,
            )
        step = -(-len(runs) // 8)
        axes.set_xticks(list(positions)[::step], list(runs)[::step])
        axes.set_ylim(bottom=0)
        axes.set_ylabel(axis)
        axes.tick_params(axis="y", labelcolor=MUTED)
        if len(shown) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        last = ", ".join(
            f"{label} {values[-1]:.4g}"
            for label, values in shown.values()
            if values[-1] is not None
        )
        return to_svg(figure, f"{axis} of {len(runs)} runs, from {runs[0]} to {runs[-1]}: {last}")


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Creates a figure with one chart; sizes are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _interval(axes: Axes, found: Estimate, y: float, color: str) -> None:
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [y, y], color=color, linewidth=1.3)


def _spoken(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def to_svg(figure: Figure, description: str) -> Markup:
    """Converts a figure to an SVG element for a page with several of them."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": description}):  # equal figures, equal bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Ids are unique only within a figure, and most of them are not referenced.
    text = re.sub(r'<g id="[\w.]+">', "<g>", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would apply to the whole page
    text = re.sub(r'(<svg) .*?(viewBox="[^"]*").*?>', r"\1 \2>", text, count=1, flags=re.DOTALL)
    text = text.replace("xlink:href", "href").replace(f"'{_FONT}'", "var(--font)")
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return Markup(text).replace(
        Markup("<svg"), Markup('<svg role="img" aria-label="{}"').format(description), 1
    )
