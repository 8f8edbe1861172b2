"""Shows a tuning, finished or not, as a page with plots.

python -m report.tuning output/tuning/movielens-100k/0123456789abcdef

``python -m pipeline.tune`` runs this at its end; the directory is the one that it prints.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.tune.places import TuningPlaces
from report import tuning_charts
from report.summary_view import metric_label
from report.templating import environment

_TEMPLATE = "tuning.html.jinja"


def page(record: Mapping[str, Any]) -> str:
    """Renders a tuning as one self-contained HTML file.

    Args:
      record: The output of ``python -m pipeline.tune``; at least one trial must be complete.
    """
    trials = {trial["number"]: trial for trial in record["trials"]}
    default, winner = trials[record["default"]], trials[record["winner"]]
    keys = list(default["values"])
    judgements = [j for j in record["judgements"] if j["winner"] == winner["attempt_of"]]
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            name=record["name"],
            label=record["validated"].capitalize(),
            winner=winner,
            default=default,
            keys=keys,
            rows=[_row(trial, keys) for trial in sorted(trials.values(), key=_rank)],
            judgement=judgements[-1] if judgements else None,
            metric_label=metric_label,
            charts=_charts(record, default, winner),
            importances=record["importances"],
        )
    )


def _rank(trial: Mapping[str, Any]) -> tuple[bool, float]:
    """Sorts complete trials first, the best of them at the top."""
    recall = trial["recall"] if trial["recall"] is not None else 0.0
    return trial["state"] != "complete", -recall


def _row(trial: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    states = {"complete": "complete", "pruned": "stopped early"}
    state = states.get(trial["state"], trial["state"])
    recall = "" if trial["recall"] is None else f"{trial['recall']:.4f}"
    step = trial["best_step"] or (trial["curve"][-1][0] if trial["curve"] else "")
    values = [_text(trial["values"].get(key, "")) for key in keys]
    return [str(trial["number"]), recall, f"{state} {trial['why']}".strip(), str(step), *values]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _charts(
    record: Mapping[str, Any], default: Mapping[str, Any], winner: Mapping[str, Any]
) -> dict[str, Any]:
    label = f"{record['validated'].capitalize()}, validation"
    finished = [t for t in record["trials"] if t["state"] in ("complete", "pruned")]
    marked = {default["number"]: "default"}
    marked[winner["number"]] = "winner" if winner is not default else "default, the best"
    return {
        "Trials": tuning_charts.over_trials(finished, default, label),
        "Validation curves": tuning_charts.curves(
            [trial for trial in finished if trial["curve"]], marked, label
        ),
        "By value": tuning_charts.by_value(
            [trial for trial in finished if trial["state"] == "complete"],
            record["space"]["parameters"],
            label,
        ),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m report.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="directory of the tuning")
    flags = parser.parse_args(argv)
    places = TuningPlaces(flags.directory)
    try:
        record = json.loads(places.record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(
            f"{places.record}: expected the record of a tuning; it cannot be read: {error}",
            file=sys.stderr,
        )
        return 1
    if record["winner"] is None:
        print(f"{places.record}: no trial is complete yet, so there is nothing to show.")
        return 1
    places.page.write_text(page(record), encoding="utf-8")
    print(f"Page      {places.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
