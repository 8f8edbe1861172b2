"""Charts of a tuning."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from report.charts import ACCENT, FULL_WIDTH, INK, MUTED, STYLE, new_figure, to_svg

_PER_ROW = 3

Trials = Sequence[Mapping[str, Any]]


def over_trials(trials: Trials, default: Mapping[str, Any], label: str) -> Markup:
    """Draws the result of each trial, and the best result so far.

    Args:
      trials: Trials that are complete or were stopped, oldest first.
      default: The trial of the configuration itself.
      label: Name of the metric.
    """
    complete = [trial for trial in trials if trial["state"] == "complete"]
    stopped = [t for t in trials if t["state"] == "pruned" and t["recall"] is not None]
    with style.context(STYLE):
        figure, axes = new_figure(FULL_WIDTH, 2.8)
        best = list(accumulate((trial["recall"] for trial in complete), max))
        numbers = [trial["number"] for trial in complete]
        axes.step(numbers, best, where="post", color=ACCENT, linewidth=1.6, label="best so far")
        axes.plot(numbers, [t["recall"] for t in complete], "o", color=ACCENT, label="complete")
        axes.plot(
            [trial["number"] for trial in stopped],
            [trial["recall"] for trial in stopped],
            "x",
            color=MUTED,
            label="stopped early, last value",
        )
        axes.axhline(default["recall"], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.annotate(
            "the configuration itself",
            (1, default["recall"]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=MUTED,
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel(label)
        axes.tick_params(axis="y", labelcolor=MUTED)
        axes.margins(y=0.12)
        figure.legend(loc="outside lower left", ncols=3)
        return to_svg(
            figure,
            f"{label} of {len(complete)} complete trials and {len(stopped)} that were stopped: "
            f"{best[0]:.4f} by the configuration itself, {best[-1]:.4f} at best",
        )


def curves(trials: Trials, marked: Mapping[int, str], label: str) -> Markup:
    """Draws the validation curves of all trials, some of them labelled with a name.

    Args:
      trials: Trials with a curve.
      marked: Names by trial number.
      label: Name of the metric.
    """
    with style.context(STYLE):
        figure, axes = new_figure(FULL_WIDTH, 3.2)
        for trial in sorted(trials, key=lambda trial: trial["number"] in marked):
            steps, values = zip(*trial["curve"], strict=True)
            name = marked.get(trial["number"])
            axes.plot(
                steps,
                values,
                color=ACCENT if name else MUTED,
                alpha=1.0 if name else 0.45,
                linewidth=1.8 if name else 0.9,
                # The curve of a trial with a single pass is a point.
                marker="o" if len(steps) == 1 else None,
                markersize=3,
            )
            if name:
                axes.annotate(
                    name,
                    (steps[-1], values[-1]),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    color=INK,
                )
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.margins(x=0.09)
        axes.set_xlabel("training step")
        axes.set_ylabel(label)
        axes.tick_params(axis="y", labelcolor=MUTED)
        described = ", ".join(f"trial {number} is {name}" for number, name in marked.items())
        return to_svg(figure, f"{label} by training step of {len(trials)} trials; {described}")


def by_value(trials: Trials, parameters: Mapping[str, Mapping[str, Any]], label: str) -> Markup:
    """Draws the results of complete trials by the value of each key, one panel per key.

    Args:
      trials: Complete trials.
      parameters: The search space: choices and whether the scale is logarithmic, by key.
      label: Name of the metric.
    """
    recalls = [trial["recall"] for trial in trials]
    rows = -(-len(parameters) // _PER_ROW)
    with style.context(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.09, wspace=0.05)
        figure = Figure(figsize=(FULL_WIDTH, 2.0 * rows), layout=layout)
        grid = figure.subplots(rows, _PER_ROW, squeeze=False, sharey=True)
        for (key, parameter), axes in zip(parameters.items(), grid.flat, strict=False):
            values = [trial["values"][key] for trial in trials]
            if parameter["choices"]:
                names = sorted({str(value) for value in values}, key=lambda n: (len(n), n))
                axes.set_xticks(range(len(names)), names)
                axes.set_xlim(-0.5, len(names) - 0.5)
                values = [names.index(str(value)) for value in values]
            axes.plot(values, recalls, "o", color=ACCENT, alpha=0.75, markersize=4.5)
            if parameter["log"]:
                low, high = min(values), max(values)
                axes.set_xscale("log")
                marks = sorted({low, (low * high) ** 0.5, high})
                axes.set_xticks(marks, [f"{mark:.2g}" for mark in marks])
                axes.minorticks_off()
            axes.set_title(key)
            axes.tick_params(axis="y", labelcolor=MUTED)
        for axes in grid[:, 0]:
            axes.set_ylabel(label)
        for axes in list(grid.flat)[len(parameters) :]:
            axes.set_visible(False)
        return to_svg(figure, f"{label} of complete trials by {', '.join(parameters)}")
