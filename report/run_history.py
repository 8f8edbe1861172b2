"""What earlier runs of a pipeline left: their summaries, and a line each in the history."""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.config_types import strict_json
from pipeline.output_layout import SUMMARY_FILE
from report import summary_view


def summaries(runs: Path) -> Iterator[dict[str, Any]]:
    """The summaries of all runs that ended, oldest first.

    Args:
      runs: The directory of the runs, ``OUTPUT_DIR/runs/NAME``.
    """
    for path in sorted(runs.glob(f"*/{SUMMARY_FILE}")):
        yield json.loads(path.read_text(encoding="utf-8"))


def spans(runs: Path) -> list[str]:
    """The span of each run that read one, in the order of the runs."""
    found = (summary["data"] and summary["data"].get("span") for summary in summaries(runs))
    return [span for span in found if span]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One run in the history.

    Attributes:
      finished: When it ended, in ISO 8601.
      span: Its newest span; empty if it read none.
      outcome: ``pushed``, ``not pushed`` or ``failed``.
      why: The pushed version, or the reason in words.
      seconds: Wall time.
      metric: Name of the primary metric; empty if nothing was evaluated.
      values: Its value by ranker, see ``summary_view.RANKERS``.
      low: Lower end of the model's 95 % interval.
      high: Upper end.
      events: Events read and kept.
      item_drift: Of the newest span from those before it, as the gate on data has it.
      training_seconds: Time of the training.
      steps: Its steps.
      generation: Warm starts since the last training from nothing.
      version_bytes: Size of the bundle.
    """

    finished: str
    span: str
    outcome: str
    why: str
    seconds: float
    metric: str = ""
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    events: int | None = None
    item_drift: float | None = None
    training_seconds: float | None = None
    steps: int | None = None
    generation: int | None = None
    version_bytes: int | None = None


def of_summary(summary: Mapping[str, Any]) -> Entry:
    """What the history keeps of a run that ended."""
    pushed = summary["push"]["pushed"]
    name = summary["primary_metric"]
    found = {
        ranker: estimate
        for ranker in summary_view.RANKERS
        if (estimate := summary_view.estimate(summary["metrics"], ranker, name)) is not None
    }
    ours = found.get("mind")
    data, training, index = summary["data"] or {}, summary["training"], summary["index"]
    measures = (data.get("window") or {}).get("measures") or [{}]
    return Entry(
        finished=summary["finished"],
        span=data.get("span", ""),
        outcome="pushed" if pushed else "not pushed",
        why=summary["push"]["version"] if pushed else _first_reason(summary),
        seconds=summary["seconds"],
        metric=name,
        values={ranker: estimate.value for ranker, estimate in found.items()},
        low=ours.low if ours else None,
        high=ours.high if ours else None,
        events=data["events"]["kept"] if data else None,
        item_drift=measures[-1].get("item_drift"),
        training_seconds=training and training["seconds"],
        steps=training and training["steps"],
        generation=training and (training.get("warm_start") or {"generation": 0})["generation"],
        version_bytes=index and index["bytes"],
    )


def of_failure(span: str, message: str, seconds: float) -> Entry:
    """What the history keeps of a run that failed.

    Of the message only the first line, or the second where the first announces a list:
    others may name rows of the data.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    first, *others = message.splitlines()
    why = others[0].strip() if first.endswith(":") and others else first
    return Entry(now, span, "failed", why, round(seconds, 1))


def remember(path: Path, entry: Entry) -> None:
    """Adds a line to the history."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(strict_json(dataclasses.asdict(entry)) + "\n")


def read(path: Path) -> list[Entry]:
    """The history, oldest run first; empty if there is none."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Entry(**json.loads(line)) for line in lines]


def _first_reason(summary: Mapping[str, Any]) -> str:
    reasons = summary_view.why_not_pushed(summary)
    return reasons[0] if reasons else summary_view.verdict(summary)
