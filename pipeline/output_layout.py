"""Where a local run writes below its output directory."""

import dataclasses
import re
from pathlib import Path

# Times in names sort as text.
TIME_FORMAT = "%Y%m%d-%H%M%S"
_TIME = r"\d{8}-\d{6}"
SUMMARY_FILE = "summary.json"


@dataclasses.dataclass(frozen=True)
class OutputLayout:
    """The places of one pipeline.

    Attributes:
      output: Root of everything that local runs write; several pipelines may share it.
      name: Name of the pipeline.
    """

    output: Path
    name: str

    @property
    def pipeline_root(self) -> Path:
        """TFX's artifacts: ``NODE/OUTPUT/EXECUTION``."""
        return self.output / "pipeline" / self.name

    @property
    def metadata(self) -> Path:
        """ML Metadata's database."""
        return self.output / "metadata" / self.name / "metadata.db"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, a directory for each training."""
        return self.output / "checkpoints" / self.name

    @property
    def bad_rows(self) -> Path:
        """Input rows that could not be used."""
        return self.output / "bad_rows" / self.name

    @property
    def spans(self) -> Path:
        """What is kept of the spans of a window."""
        return self.output / "spans" / self.name

    @property
    def forgotten(self) -> Path:
        """The list of people and items that are not read any more; its key stands beside it."""
        return self.output / "forgotten" / f"{self.name}.json"

    @property
    def accepted_data(self) -> Path:
        """What the gate on data last accepted."""
        return self.output / "accepted_data" / self.name

    @property
    def serving_models(self) -> Path:
        """Pushed versions, unless the configuration names another place."""
        return self.output / "serving_models" / self.name

    @property
    def runs(self) -> Path:
        """Summaries and reports, a directory for each run that ended; named by its time."""
        return self.output / "runs" / self.name

    @property
    def history(self) -> Path:
        """A line for each run, which stays when the run's own files are removed."""
        return self.output / "history" / f"{self.name}.jsonl"

    @property
    def tunings(self) -> Path:
        """Searches for a better recipe, a directory for each."""
        return self.output / "tuning" / self.name

    @property
    def logs(self) -> Path:
        """The logs of all pipelines."""
        return self.output / "logs"

    def log_file(self, time: str) -> Path:
        """The log of the run that began at ``time``, written as ``TIME_FORMAT`` has it."""
        return self.logs / f"{self.name}-{time}.log"

    def log_files(self) -> dict[str, Path]:
        """The logs of this pipeline by the time at which the run began, oldest first."""
        pattern = re.compile(rf"{re.escape(self.name)}-({_TIME})\.log")
        found = {}
        for path in sorted(self.logs.glob("*.log")):
            if match := pattern.fullmatch(path.name):
                found[match[1]] = path
        return found
