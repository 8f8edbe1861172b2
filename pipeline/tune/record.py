"""Output of a tuning: its record as JSON, and the table of the final comparison."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract.config_types import strict_json
from pipeline.tune.study import Trial


def write_json(path: Path, content: Any) -> None:
    """Writes a file atomically."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(strict_json(content, indent=1), encoding="utf-8")
    os.replace(unfinished, path)


def trial_facts(trial: Trial) -> dict[str, Any]:
    """Returns a trial as JSON; its curve is a list of step and recall."""
    return {
        **dataclasses.asdict(trial),
        "values": dict(trial.values),
        "curve": [[step, recall] for step, recall in trial.curve.items()],
    }


def read_judgements(path: Path) -> list[dict[str, Any]]:
    """Reads the judgements of a tuning, oldest first."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def values_text(values: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Formats the settings that a trial changes, such as ``learning_rate=0.002 dropout=0.3``."""
    changed = {key: value for key, value in values.items() if value != own[key]}
    parts = [f"{key.rpartition('.')[2]}={_number(value)}" for key, value in changed.items()]
    return " ".join(parts) or "the configuration itself"


def table(judgement: Mapping[str, Any], default: Trial, winner: Trial, validated: str) -> str:
    """Formats the winner beside the default recipe, on validation and on test people.

    Args:
      judgement: As `steps.judge` returned it.
      default: The trial of the configuration itself.
      winner: The best trial.
      validated: Name of the metric by which trials are selected.
    """
    rows = [("", "default", "winner", "difference")]
    rows.append(_row(f"{validated}, validation", default.recall or 0.0, winner.recall or 0.0))
    for metric in judgement["metrics"]:
        rows.append(_row(f"{metric['name']}, test", metric["default"], metric["winner"]))
    found = judgement["difference"]
    # Only the first metric's difference was tested.
    rows[2] = (
        *rows[2][:3],
        f"{rows[2][3]} (95 % interval {found['low']:+.4f} to {found['high']:+.4f}, "
        f"{found['people']:,} people)",
    )
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{name:<{width}}  {before:>7}  {after:>7}  {change}"
        for name, before, after, change in rows
    )


def verdict(judgement: Mapping[str, Any]) -> str:
    """Returns a sentence that interprets the paired interval."""
    found, primary = judgement["difference"], judgement["metrics"][0]
    if found["low"] > 0:
        share = f", by {found['value'] / primary['default']:.1%}" if primary["default"] else ""
        return f"The winner is better than the default recipe{share}."
    if found["high"] < 0:
        return (
            "The winner is worse than the default recipe: its gain on validation people was due "
            "to chance."
        )
    return (
        "The interval contains 0: these test people do not show a difference between the winner "
        "and the default recipe."
    )


def _row(name: str, before: float, after: float) -> tuple[str, str, str, str]:
    return name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
