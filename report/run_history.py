"""What earlier runs of a pipeline left in their summaries."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.output_layout import SUMMARY_FILE


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
