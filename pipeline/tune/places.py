"""Locations of a tuning's files."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class TrialPlaces:
    """The directory of one trial, shared by all its attempts.

    Attributes:
      root: The directory.
    """

    root: Path

    @property
    def model(self) -> Path:
        """The model artifact."""
        return self.root / "model"

    @property
    def run(self) -> Path:
        """The training's report and TensorBoard events."""
        return self.root / "run"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, during training."""
        return self.root / "checkpoints"


@dataclasses.dataclass(frozen=True)
class TuningPlaces:
    """The directory of one tuning.

    Attributes:
      root: The directory.
    """

    root: Path

    @property
    def database(self) -> Path:
        """Optuna's study."""
        return self.root / "study.db"

    @property
    def record(self) -> Path:
        """All facts worth reporting, as JSON; written after every trial."""
        return self.root / "tuning.json"

    @property
    def judgements(self) -> Path:
        """The results on test people, as JSON."""
        return self.root / "judgements.json"

    @property
    def winner(self) -> Path:
        """The configuration of the best trial."""
        return self.root / "winner.yaml"

    @property
    def page(self) -> Path:
        """The page with the history and plots."""
        return self.root / "history.html"

    def trial(self, number: int) -> TrialPlaces:
        """Returns the places of the trial whose first attempt has this number."""
        return TrialPlaces(self.root / "trials" / f"{number:04d}")
