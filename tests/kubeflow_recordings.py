"""What Kubeflow's own programs sent, see ``tests/recordings/kubeflow/README.md``."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "recordings" / "kubeflow"

STEPS = sorted(path.stem for path in (_FOLDER / "steps").glob("*.json"))


def step(name: str) -> dict[str, Any]:
    """``executor_input`` and ``arguments`` of a step."""
    return json.loads((_FOLDER / "steps" / f"{name}.json").read_text())


def refusals() -> dict[str, dict[str, Any]]:
    """Status and body of refused requests, by what was wrong."""
    return json.loads((_FOLDER / "refusals.json").read_text())


def failed_run() -> dict[str, Any]:
    """A failed run as the API returned it, and the log of the failed pod."""
    return json.loads((_FOLDER / "failed_run.json").read_text())
