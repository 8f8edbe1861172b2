"""The HTML report of a run: one self-contained file that also works offline."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from contract import manifest
from contract.evaluation_outputs import POPULARITY_BUCKETS
from contract.metric_names import COVERAGE, MRR
from report import charts as report_charts
from report import summary_view, training_view
from report.charts import Series
from report.summary_view import OVERALL, RANKERS, Estimate
from report.templating import environment

FILE_NAME = "report.html"

_TEMPLATE = "report.html.jinja"
_SHOWN_TARGETS = 12


def write(summary: Mapping[str, Any], directory: Path) -> Path:
    """Writes the report.

    Args:
      summary: From ``run_summary.summarise``, or read from ``summary.json``; parts that are None
        are left out.
      directory: An existing directory.

    Returns:
      Path of the file.
    """
    path = directory / FILE_NAME
    path.write_text(render(summary), encoding="utf-8")
    return path


def render(summary: Mapping[str, Any]) -> str:
    """Renders the report as HTML."""
    templates = environment(yaml=_as_yaml, date=_as_date)
    return templates.get_template(_TEMPLATE).render(
        view=summary_view,
        training_view=training_view,
        manifest=manifest,
        summary=summary,
        primary_label=summary_view.metric_label(summary["primary_metric"]),
        headline=_headline(summary),
        quality=quality_tables(summary),
        charts=_charts(summary),
        data=_data(summary["data"]),
        shown_targets=_SHOWN_TARGETS,
        longest_step=max((step["seconds"] for step in summary["steps"]), default=0.0),
    )


def _headline(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the primary metric, and how far it exceeds that of each other ranker."""
    name, metrics = summary["primary_metric"], summary["metrics"]
    ours = summary_view.estimate(metrics, "mind", name)
    if ours is None:
        return None
    others = {
        label: ours.value / found.value - 1.0
        for key, label in RANKERS.items()
        if key != "mind" and (found := summary_view.estimate(metrics, key, name)) and found.value
    }
    return {"estimate": ours, "above": others}


def quality_tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one table per ranking (without and with people's own items), the primary one first.

    Each has ``history_included``, ``rankers`` (labels) and ``rows``, which hold a metric's label
    and, per ranker, the estimate and whether it is the best.
    """
    metrics = summary["metrics"]
    rankers = [key for key in RANKERS if key in metrics]
    names: list[tuple[str, int | None]] = [
        (quantity, cutoff)
        for quantity in summary_view.QUANTITIES
        for cutoff in summary_view.cutoffs(metrics)
    ]
    names.append((MRR, None))
    primary = summary_view.with_history(summary["primary_metric"])
    tables = []
    for history_included in (primary, not primary):
        rows = []
        coverage = [(COVERAGE, n) for n in summary_view.cutoffs(metrics)]
        for quantity, cutoff in names + (coverage if history_included == primary else []):
            name = summary_view.metric_name(quantity, cutoff, history_included)
            found = [summary_view.estimate(metrics, key, name) for key in rankers]
            if any(found):
                best = max(e.value for e in found if e)
                rows.append(
                    {
                        "label": summary_view.metric_label(name),
                        # A ranker that covers more of the catalogue is not necessarily better.
                        "cells": [
                            (e, e is not None and e.value == best and quantity != COVERAGE)
                            for e in found
                        ],
                        "first": cutoff in (None, min(summary_view.cutoffs(metrics))),
                    }
                )
        if rows:
            labels = [(key, RANKERS[key]) for key in rankers]
            tables.append({"history_included": history_included, "rankers": labels, "rows": rows})
    return tables


def _charts(summary: Mapping[str, Any]) -> dict[str, Markup]:
    """Draws the charts for which there are figures."""
    charts = {}
    metrics, name = summary["metrics"], summary["primary_metric"]
    label = summary_view.metric_label(name)
    if summary_view.estimate(metrics, "mind", name):
        charts["primary"] = report_charts.ranker_bars(_series(metrics, [(OVERALL, name)]), label)
    buckets = summary_view.history_buckets(metrics)
    if buckets:
        charts["by_history"] = report_charts.slice_dots(
            _series(metrics, [(slice_name, name) for slice_name, _ in buckets]),
            [bucket for _, bucket in buckets],
            "By length of the history",
            label,
        )
    popularity = [f"{name}_{bucket}" for bucket in POPULARITY_BUCKETS]
    measured = [n for n in popularity if summary_view.estimate(metrics, "mind", n)]
    if measured:
        charts["by_popularity"] = report_charts.slice_dots(
            _series(metrics, [(OVERALL, metric) for metric in measured]),
            [metric.rpartition("_")[2] for metric in measured],
            "By popularity of the held-out item",
            label,
        )
    training = summary["training"]
    if training and training["history"]:
        charts["training"] = report_charts.training_curves(training, _validation_label(summary))
    facts = summary["manifest"]
    if facts and facts[manifest.INDEX].get(manifest.CURVE):
        index_config = facts[manifest.CONFIG]["index"]
        charts["index"] = report_charts.recall_latency(
            facts[manifest.INDEX][manifest.CURVE],
            facts[manifest.INDEX],
            index_config["recall_target"],
            f"recall@{index_config['recall_k']}",
        )
    return charts


def _series(metrics: Mapping[str, Any], points: Sequence[tuple[str, str]]) -> list[Series]:
    """Returns every ranker's estimates at (slice, metric) points; omits rankers without any."""
    series = []
    for key, label in RANKERS.items():
        found: list[Estimate | None] = [
            summary_view.estimate(metrics, key, metric, slice_name) for slice_name, metric in points
        ]
        if any(found):
            series.append(Series(key, label, found))
    return series


def _validation_label(summary: Mapping[str, Any]) -> str:
    facts = summary["manifest"]
    return f"recall@{facts[manifest.CONFIG]['training']['eval_cutoff']}" if facts else "recall"


def _data(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if data is None:
        return None
    read = data["tables"]["interactions"]["read"]
    dropped = summary_view.dropped_events(data)
    kept = data["events"]["kept"]
    return {
        "read": read,
        "kept": kept,
        "share": kept / read if read else 0.0,
        "dropped": dropped,
        "first": datetime.datetime.fromtimestamp(data["time"]["first"], datetime.timezone.utc),
        "last": datetime.datetime.fromtimestamp(data["time"]["last"], datetime.timezone.utc),
    }


def _as_yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _as_date(moment: datetime.datetime | str) -> str:
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return f"{moment.day} {moment:%b %Y}"
