"""Locations of a local run's outputs below its output directory."""

import dataclasses
import re
from pathlib import Path

# Times in this format sort correctly as text.
TIME_FORMAT = "%Y%m%d-%H%M%S"
_TIME = r"\d{8}-\d{6}"
SUMMARY_FILE = "summary.json"


@dataclasses.dataclass(frozen=True)
class OutputLayout:
    """The locations of one pipeline's outputs.

    Attributes:
      output: Root directory of all outputs of local runs; several pipelines may share it.
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
        """Checkpoints, with a directory for each training."""
        return self.output / "checkpoints" / self.name

    @property
    def bad_rows(self) -> Path:
        """Input rows that could not be used."""
        return self.output / "bad_rows" / self.name

    @property
    def spans(self) -> Path:
        """The stored spans of a window."""
        return self.output / "spans" / self.name

    @property
    def forgotten(self) -> Path:
        """The list of forgotten people and items; its key is in the same directory."""
        return self.output / "forgotten" / f"{self.name}.json"

    @property
    def accepted_data(self) -> Path:
        """A record of the data that the data gate last accepted."""
        return self.output / "accepted_data" / self.name

    @property
    def serving_models(self) -> Path:
        """Pushed versions, unless the configuration sets another directory."""
        return self.output / "serving_models" / self.name

    @property
    def runs(self) -> Path:
        """Summaries and reports, with a directory for each finished run, named after its time."""
        return self.output / "runs" / self.name

    @property
    def history(self) -> Path:
        """A file with one line per run, which is kept when the run's own files are removed."""
        return self.output / "history" / f"{self.name}.jsonl"

    @property
    def tunings(self) -> Path:
        """Searches for a better recipe, with a directory for each."""
        return self.output / "tuning" / self.name

    @property
    def logs(self) -> Path:
        """The logs of all pipelines."""
        return self.output / "logs"

    def log_file(self, time: str) -> Path:
        """Returns the log of the run that began at ``time``, which is in ``TIME_FORMAT``."""
        return self.logs / f"{self.name}-{time}.log"

    def log_files(self) -> dict[str, Path]:
        """Returns the logs of this pipeline by the time at which the run began, oldest first."""
        pattern = re.compile(rf"{re.escape(self.name)}-({_TIME})\.log")
        found = {}
        for path in sorted(self.logs.glob("*.log")):
            if match := pattern.fullmatch(path.name):
                found[match[1]] = path
        return found
