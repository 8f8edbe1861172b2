"""One model of the server's configuration: what should be served of it, and what is."""

import dataclasses
import logging
from pathlib import Path

import grpc
from tensorflow_serving.config import model_server_config_pb2

from contract.release import CANARY, STABLE, ReleaseState
from serving.errors import ServingError, invalid_argument
from serving.servable import Servable, State
from serving.versions import Snapshot, VersionPolicy

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class ConfiguredModel:
    """A model that the server is configured to serve.

    Attributes:
      name: Its name in requests.
      base_path: Directory that contains its versions.
      policy: Which versions to serve.
      labels: Versions by label, as configured; they take precedence over those of the release
        state.
      servables: The versions that were found.
      seen: Contents of version directories that are still settling, and since when.
      problem: Why the base path as a whole cannot be used; empty if it can.
      ignored: Why entries whose names are numbers are not versions, by entry.
      release: The release state as last read successfully.
      release_problem: Why the served versions differ from the release state; empty if they do not.
      stable: The version that answers requests which name no version, once there is one.
      canary: The version on trial, if it is served.
      rejected: The version on trial that this server has withdrawn, and why.
    """

    name: str
    base_path: Path
    policy: VersionPolicy
    labels: dict[str, int]
    servables: dict[int, Servable] = dataclasses.field(default_factory=dict)
    seen: dict[int, tuple[Snapshot, float]] = dataclasses.field(default_factory=dict)
    problem: str = ""
    ignored: dict[str, str] = dataclasses.field(default_factory=dict)
    release: ReleaseState = dataclasses.field(default_factory=ReleaseState)
    release_problem: str = ""
    stable: int | None = None
    canary: int | None = None
    rejected: tuple[int, str] | None = None

    def available(self) -> dict[int, Servable]:
        """The versions that are being served."""
        return {v: s for v, s in self.servables.items() if s.is_available}

    def continues(self, before: "ConfiguredModel") -> None:
        """Takes over what an earlier configuration has loaded from the same base path."""
        self.servables, self.seen = before.servables, before.seen
        self.release, self.stable, self.canary = before.release, before.stable, before.canary
        self.rejected = before.rejected

    def note(self, servable: Servable, previous: Servable | None) -> None:
        """Reports why a version is not served: in the status, and once in the log.

        Args:
          servable: The version, with the reason.
          previous: Its earlier state.
        """
        assert servable.error is not None
        self.servables[servable.version] = servable
        message = servable.error.message
        known = previous.error if previous is not None else None
        if known is not None and known.message == message:
            return
        has_failed = servable.state == State.END
        _log.log(
            logging.ERROR if has_failed else logging.INFO,
            "version not loaded" if has_failed else "version waits",
            extra={"model": self.name, "version": servable.version, "error": message},
        )

    def label_settles(self) -> bool:
        """Whether a version with a label is only waiting for its files to settle."""
        return any(map(self._settles, self.labels.values()))

    def first_settles(self) -> bool:
        """Whether nothing is served yet because a version is still settling."""
        return not self.available() and any(map(self._settles, self.seen))

    def _settles(self, version: int) -> bool:
        return version in self.seen and self.servables[version].state == State.START

    def default_version(self) -> int:
        """Returns the version that answers requests which name none; -1 if nothing is served."""
        stable = self.servables.get(self.stable) if self.stable is not None else None
        if stable is not None and stable.is_available:
            return stable.version
        return max(self.available(), default=-1)

    def version_of(self, label: str) -> int | None:
        """Returns the version that has a label; None if the label is unknown."""
        released = {STABLE: self.stable, CANARY: self.canary}
        return self.labels.get(label, released.get(label))

    def label_of(self, version: int) -> str:
        """Returns ``stable`` or ``canary``; empty for every other version."""
        if version == self.stable:
            return STABLE
        return CANARY if version == self.canary else ""

    def why_nothing(self) -> str:
        """Returns why no version is served."""
        if self.problem:
            return self.problem
        reasons = [s.error.message for _, s in sorted(self.servables.items()) if s.error]
        reasons += [f"entry {entry} is ignored: {why}" for entry, why in self.ignored.items()]
        reasons += [self.release_problem] if self.release_problem else []
        return "; ".join(reasons) or (
            f"its base path {self.base_path} has no directory whose name is a version number"
        )


def from_config(
    config: model_server_config_pb2.ModelServerConfig,
) -> dict[str, ConfiguredModel]:
    """Returns the models of ``config`` by name, with nothing loaded.

    Raises:
      ServingError: INVALID_ARGUMENT; the configuration is not valid.
    """
    models: dict[str, ConfiguredModel] = {}
    for entry in config.model_config_list.config:
        if not entry.name or not entry.base_path:
            raise invalid_argument(
                f"Model config needs a name and a base_path, got name {entry.name!r} and"
                f" base_path {entry.base_path!r}"
            )
        if entry.name in models:
            raise invalid_argument(
                f"Illegal to list model {entry.name} multiple times in config list"
            )
        if entry.model_platform not in ("", "tensorflow"):
            raise invalid_argument(
                f"Model {entry.name} has model_platform {entry.model_platform!r}; only"
                " 'tensorflow' can be served"
            )
        models[entry.name] = ConfiguredModel(
            entry.name,
            Path(entry.base_path),
            VersionPolicy.from_proto(entry.model_version_policy),
            dict(entry.version_labels),
        )
    if not models:
        raise invalid_argument("The model config list names no model; it needs at least one")
    return models


def check_labels(models: dict[str, ConfiguredModel], before: dict[str, ConfiguredModel]) -> None:
    """Refuses labels for versions that are not being served, as TF Serving does.

    Args:
      models: The models after a reload; if a label is refused, all of them get their previous
        labels back.
      before: The models before the reload.

    Raises:
      ServingError: FAILED_PRECONDITION.
    """
    for model in models.values():
        for label, version in model.labels.items():
            if version in model.available():
                continue
            for changed in models.values():
                old = before.get(changed.name)
                changed.labels = old.labels if old else {}
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {model.name}, which is"
                f" not currently available for inference (label {label}). The labels are unchanged",
            )
