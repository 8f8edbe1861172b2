"""Configures how long the outputs of local runs are kept."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass

# An unchanged run compares its model with the version before its own.
_FEWEST_VERSIONS = 2


@config_dataclass
class RetentionConfig:
    """What remains on disk after a run; ``pipeline.retention`` removes the rest.

    Attributes:
      runs: Number of newest runs whose report, summary, log and artifacts are kept; 0 keeps those
        of all runs.
      versions: Number of newest pushed versions that are kept, at least 2; 0 keeps all. A version
        that the server may be using is kept as well.
      spans: ``window`` removes the stored data of spans older than the window, and of files that
        were corrected since; ``all`` keeps everything.
    """

    runs: int = Field(default=14, ge=0)
    versions: int = Field(default=5, ge=0)
    spans: Literal["window", "all"] = "window"

    def __post_init__(self) -> None:
        if 0 < self.versions < _FEWEST_VERSIONS:
            raise ValueError(
                f"versions must be 0 (keep all) or at least {_FEWEST_VERSIONS}, because a run "
                f"compares its model with the version before; got {self.versions}"
            )
