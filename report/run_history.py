"""Records of earlier runs: their summaries, and one line each in the history."""

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
    """Yields the summaries of all finished runs, oldest first.

    Args:
      runs: The directory of the runs, ``OUTPUT_DIR/runs/NAME``.
    """
    for path in sorted(runs.glob(f"*/{SUMMARY_FILE}")):
        yield json.loads(path.read_text(encoding="utf-8"))


def spans(runs: Path) -> list[str]:
    """Returns the newest span of each run that read spans, in the order of the runs."""
    found = (summary["data"] and summary["data"].get("span") for summary in summaries(runs))
    return [span for span in found if span]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One run in the history.

    Attributes:
      finished: End of the run, in ISO 8601.
      span: Newest span of the run; empty if it read none.
      outcome: ``pushed``, ``not pushed`` or ``failed``.
      why: The pushed version, or the reason as text.
      seconds: Wall time.
      metric: Name of the primary metric; empty if nothing was evaluated.
      values: Value of the primary metric by ranker; see ``summary_view.RANKERS``.
      low: Lower end of the 95 % interval of the model's value.
      high: Upper end of that interval.
      events: Number of events that were read and kept.
      item_drift: Drift of the newest span against earlier ones, as measured by the data gate.
      training_seconds: Duration of the training.
      steps: Number of training steps.
      generation: Number of warm starts since the last training from nothing.
      version_bytes: Size of the bundle in bytes.
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
    """Creates the history's entry for a finished run."""
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
    """Creates the history's entry for a failed run.

    Only the first line of the message is kept, or the second if the first announces a list: other
    lines may contain rows of the data.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    first, *others = message.splitlines()
    why = others[0].strip() if first.endswith(":") and others else first
    return Entry(now, span, "failed", why, round(seconds, 1))


def remember(path: Path, entry: Entry) -> None:
    """Appends an entry to the history."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(strict_json(dataclasses.asdict(entry)) + "\n")


def read(path: Path) -> list[Entry]:
    """Reads the history, oldest run first; empty if there is none."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Entry(**json.loads(line)) for line in lines]


def _first_reason(summary: Mapping[str, Any]) -> str:
    reasons = summary_view.why_not_pushed(summary)
    return reasons[0] if reasons else summary_view.verdict(summary)
