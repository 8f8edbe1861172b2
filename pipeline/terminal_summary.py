"""The end-of-run summary as text for the terminal."""

from collections.abc import Mapping
from typing import Any

from pipeline.run_summary import OVERALL

_RANKERS = {
    "mind": "MIND (this run)",
    "pushed": "last pushed model",
    "item_knn": "item-kNN",
    "popularity": "popularity",
}
_QUANTITIES = ("recall", "ndcg", "hit_rate")


def render(summary: Mapping[str, Any], cutoffs: tuple[int, ...], exclude_history: bool) -> str:
    """Lines of text, in the order in which a reader asks.

    Args:
      summary: From ``run_summary.summarise``.
      cutoffs: N of the metrics.
      exclude_history: Which of the two rankings is the primary one.
    """
    parts = [
        _data(summary["data"]),
        _metrics(summary["metrics"], cutoffs, exclude_history),
        _sample(summary["sample_people"]),
        _index(summary["index"]),
        _outcome(summary),
    ]
    return "\n\n".join(part for part in parts if part)


def _data(report: Mapping[str, Any] | None) -> str:
    if not report:
        return ""
    rows = report["rows"]
    dropped = {**rows["bad"], **{k: v for k, v in rows["dropped"].items() if v}}
    why = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "none"
    splits = ", ".join(
        f"{name} {values['people']:,}" for name, values in report["splits"].items()
    )
    return (
        f"Data      {rows['read']:,} rows read, {rows['kept']:,} kept; dropped: {why}\n"
        f"          {report['users']['kept']:,} people, {report['catalogue']:,} items in the "
        f"catalogue; people per split: {splits}"
    )


def _metrics(
    metrics: Mapping[str, Any], cutoffs: tuple[int, ...], exclude_history: bool
) -> str:
    if "mind" not in metrics:
        return ""
    suffix = "" if exclude_history else "_history_included"
    names = [f"{q}_at_{cutoffs[-1]}{suffix}" for q in _QUANTITIES]
    header = f"{'Test split, 95 % interval':<28}" + "".join(
        f"{_label(name):>26}" for name in names
    )
    lines = [header]
    for ranker, label in _RANKERS.items():
        if ranker in metrics:
            values = metrics[ranker][OVERALL]
            lines.append(
                f"{label:<28}" + "".join(f"{_interval(values.get(name)):>26}" for name in names)
            )
    return "\n".join(lines)


def _label(name: str) -> str:
    quantity, _, cutoff = name.removesuffix("_history_included").partition("_at_")
    return f"{quantity.replace('_', ' ')}@{cutoff}"


def _interval(value: Mapping[str, float] | None) -> str:
    if not value or "value" not in value:
        return "–"
    text = f"{value['value']:.4f}"
    if "low" in value and "high" in value:
        text += f" [{value['low']:.4f}, {value['high']:.4f}]"
    return text


def _index(validation: Mapping[str, Any] | None) -> str:
    if not validation:
        return ""
    return (
        f"Index     {validation['kind']}, recall@{validation['recall_k']} "
        f"{validation['recall']:.4f}, one request p50 "
        f"{validation['single_latency_ms']['p50']:.1f} ms, p99 "
        f"{validation['single_latency_ms']['p99']:.1f} ms, "
        f"{validation['size_bytes'] / 1e6:.1f} MB"
    )


def _sample(people: list[Mapping[str, Any]] | None) -> str:
    if not people:
        return ""
    person = people[0]
    recent = ", ".join(_name(item) for item in person["history"][-5:])
    lines = [
        f"For person {person['user_id']}, who has {person['history_length']} items, "
        f"most recently {recent}:"
    ]
    for group in person["interests"]:
        label = "most popular" if group["interest"] < 0 else f"interest {group['interest'] + 1}"
        names = ", ".join(_name(item) for item in group["items"])
        lines.append(f"  {label}: {names}")
    return "\n".join(lines)


def _name(item: Mapping[str, str]) -> str:
    return item["title"] or item["item_id"]


def _outcome(summary: Mapping[str, Any]) -> str:
    lines = []
    blessing = summary["blessing"]
    if blessing is not None:
        lines.append(
            "Blessed   yes"
            if blessing["blessed"]
            else "Blessed   no: " + "; ".join(blessing["reasons"])
        )
    push = summary["push"]
    if push["pushed"]:
        lines.append(f"Pushed    version {push['version']} to {push['path']}")
        history = ""
        if summary["sample_people"]:
            history = ",".join(i["item_id"] for i in summary["sample_people"][0]["history"][-3:])
        lines.append("Serve it  make serve")
        lines.append(f"Query it  python -m serving.client --history {history} -k 10 --titles")
    elif blessing is not None:
        lines.append("Pushed    no; what was served before stays")
    lines.append(f"Time      {summary['seconds']:.0f} s")
    return "\n".join(lines)
