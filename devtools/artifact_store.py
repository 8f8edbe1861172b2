"""The development runner's record of executions: a file in place of ML Metadata.

The file has one JSON line per execution. As in ML Metadata, artifacts have a number as their name,
which also distinguishes them in a cache key.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Execution:
    """One completed step.

    Attributes:
      run: The run that it belongs to.
      task: The step.
      cache_key: Digest of everything that the step depended on.
      outputs: RuntimeArtifact by output name.
    """

    run: str
    task: str
    cache_key: str
    outputs: dict[str, dict[str, Any]]


class ArtifactStore:
    """Stored executions, the newest last."""

    def __init__(self, path: Path):
        """Opens the store.

        Args:
          path: File of the store; created by the first execution.
        """
        self._path = path
        self.executions: list[Execution] = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.executions = [Execution(**json.loads(line)) for line in lines]

    def publish(self, execution: Execution) -> None:
        """Numbers the artifacts and stores the execution."""
        number = sum(len(e.outputs) for e in self.executions)
        for artifact in execution.outputs.values():
            number += 1
            artifact["name"] = str(number)
        self.executions.append(execution)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(execution)) + "\n")

    def cached(self, cache_key: str) -> Execution | None:
        """Returns the newest execution with this key; None if there is none."""
        return next((e for e in reversed(self.executions) if e.cache_key == cache_key), None)
