"""A run summary for the tests of its views."""

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("summary.json")
PARTS = ("data", "training", "blessing", "index", "manifest", "sample_people")


def pushed() -> dict[str, Any]:
    """A MovieLens run that was blessed and pushed; some steps came from cache."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


def refused() -> dict[str, Any]:
    """The same run, 0.017 below the last pushed model where 0.01 is allowed."""
    summary = pushed()
    summary["metrics"]["mind"]["overall"]["recall_at_50"] = {
        "value": 0.345,
        "low": 0.315,
        "high": 0.375,
    }
    summary["blessing"] |= {"blessed": False, "reasons": ["recall_at_50: change threshold"]}
    summary["push"] |= {"pushed": False, "version": "", "path": ""}
    return summary


def empty() -> dict[str, Any]:
    """A run of which only the steps are known."""
    summary = refused()
    return {**summary, **dict.fromkeys(PARTS), "metrics": {}}
