"""How long what local runs leave behind is kept."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass

# An unchanged run compares with the version before its own.
_FEWEST_VERSIONS = 2


@config_dataclass
class RetentionConfig:
    """What a run leaves on disk when it has ended; ``pipeline.retention`` removes the rest.

    Attributes:
      runs: Newest runs whose report, summary, log and artifacts are kept; 0 keeps
        those of all runs.
      versions: Newest pushed versions that are kept, at least 2; 0 keeps all. A version
        that the server may use is kept besides.
      spans: ``window`` removes what was kept of spans that are older than the window,
        and of files that were corrected since; ``all`` keeps it.
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
