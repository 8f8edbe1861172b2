"""What the development runner remembers: a file in place of ML Metadata.

One JSON line per execution. Artifacts have a number as their name, as in ML
Metadata, which is also what makes them distinct in a cache key.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Execution:
    """One step that has run to its end.

    Attributes:
      run: Which run.
      task: Which step.
      cache_key: Digest of everything that it depended on.
      outputs: RuntimeArtifact by output name.
    """

    run: str
    task: str
    cache_key: str
    outputs: dict[str, dict[str, Any]]


class ArtifactStore:
    """Executions, newest last."""

    def __init__(self, path: Path):
        """Opens the store.

        Args:
          path: Its file; made by the first execution.
        """
        self._path = path
        self.executions: list[Execution] = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.executions = [Execution(**json.loads(line)) for line in lines]

    def publish(self, execution: Execution) -> None:
        """Numbers the artifacts and keeps the execution."""
        number = sum(len(e.outputs) for e in self.executions)
        for artifact in execution.outputs.values():
            number += 1
            artifact["name"] = str(number)
        self.executions.append(execution)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(execution)) + "\n")

    def cached(self, cache_key: str) -> Execution | None:
        """The newest execution with this key."""
        return next((e for e in reversed(self.executions) if e.cache_key == cache_key), None)
