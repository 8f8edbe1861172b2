"""The release state of a model: which version is stable, on trial or withdrawn.

The release state is one small JSON file beside the version directories. Servers, the pipeline
and ``python -m serving.release`` read it. Without the file, the newest complete version is
stable. TF Serving ignores the file, because its name is not a number. This module defines the
state and its rules; ``contract.release_file`` reads and writes the file.

The terms are those of progressive delivery on Kubernetes (Argo Rollouts, Flagger): the *stable*
version answers by default, the *canary* answers a share of the traffic, and a *withdrawn* version
is not served again until somebody promotes it.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from contract.errors import UserError

STABLE = "stable"
CANARY = "canary"

# Custom properties of a PushedModel and keys of a run's summary, set if the model was not pushed
# because it had been pushed before and was withdrawn.
WITHDRAWN_VERSION = "withdrawn_version"
NOT_PUSHED_BECAUSE = "not_pushed_because"

FORMAT = 1
# Older changes are dropped from the history.
MAX_HISTORY = 100


class ReleaseError(UserError):
    """The release state cannot be read, or a change to it is refused."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CanaryLimits:
    """Limits beyond which a server withdraws a canary; the defaults are defined only here.

    Each server judges the canary by the requests that it has routed itself.

    Attributes:
      window_seconds: Age up to which requests count, in seconds.
      min_requests: Number of requests within the window that the canary must have received
        before it is judged. Latencies are compared only once the canary and the stable version
        have each answered this many.
      max_error_increase: Largest amount by which the canary's share of errors may exceed that of
        the stable version.
      max_latency_ratio: Largest ratio of the canary's 95th percentile of latency to that of the
        stable version.
      max_empty_increase: Largest amount by which the canary's share of empty answers may exceed
        that of the stable version.
    """

    window_seconds: float = 600.0
    min_requests: int = 100
    max_error_increase: float = 0.02
    max_latency_ratio: float = 2.0
    max_empty_increase: float = 0.02

    def __post_init__(self) -> None:
        for name, low in (
            ("window_seconds", 1.0),
            ("min_requests", 1),
            ("max_error_increase", 0.0),
            ("max_latency_ratio", 1.0),
            ("max_empty_increase", 0.0),
        ):
            if getattr(self, name) < low:
                raise ReleaseError(f"{name} must be at least {low:g}, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary:
    """A version on trial.

    Attributes:
      version: The version's number.
      share: Share of the requests that the version answers, between 0 and 1.
      limits: Limits beyond which servers withdraw the version.
      holds_stable: Whether the stable version is pinned only for the time of the trial.
    """

    version: int
    share: float
    limits: CanaryLimits = CanaryLimits()
    holds_stable: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ReleaseError(
                f"The share of a canary must be between 0 and 1, such as 0.05; got {self.share:g}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """The reason why a version must not be served.

    Attributes:
      at: When it was withdrawn, in ISO 8601 with the offset from UTC.
      by: Who or what withdrew it.
      reason: Why it was withdrawn.
    """

    at: str
    by: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One entry of the history.

    Attributes:
      at: When the change was made, in ISO 8601 with the offset from UTC.
      by: Who or what made the change.
      what: The change in words.
    """

    at: str
    by: str
    what: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleaseState:
    """The release state of one model.

    Attributes:
      stable: The pinned version; None if the newest complete version that is neither
        withdrawn nor a canary is stable.
      canary: The version on trial, if any.
      withdrawn: Versions that must not be served, by number.
      history: The last changes, oldest first.
    """

    stable: int | None = None
    canary: Canary | None = None
    withdrawn: Mapping[int, Withdrawal] = dataclasses.field(default_factory=dict)
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for label, version in ((STABLE, self.stable), (CANARY, self.trial)):
            if version is not None and version in self.withdrawn:
                raise ReleaseError(f"Version {version} cannot be both {label} and withdrawn")
        if self.stable is not None and self.trial == self.stable:
            raise ReleaseError(f"Version {self.trial} cannot be both stable and canary")

    @property
    def trial(self) -> int | None:
        """The canary's version, if there is a canary."""
        return self.canary.version if self.canary else None

    @property
    def is_pinned(self) -> bool:
        """Whether a newly pushed version is not served because somebody pinned another."""
        return self.stable is not None and not (self.canary and self.canary.holds_stable)


def stable_candidates(
    state: ReleaseState, versions: Iterable[int], serving: int | None = None
) -> list[int]:
    """Returns the versions that may be stable, in order of preference.

    The first one is the version that the state selects. If it does not load or does not
    exist, a server falls back to the others, one after another.

    Args:
      state: The release state.
      versions: The existing versions.
      serving: The version that serves as stable now. If another version is pinned, it
        comes directly after that one, so that a pin on a version that does not load
        changes nothing.
    """
    usable = sorted({v for v in versions if v not in state.withdrawn}, reverse=True)
    order = [v for v in usable if v != state.trial]
    if state.stable is not None:
        pinned = state.stable
        order = [v for v in (pinned, serving) if v in order] + [
            *(v for v in order if v < pinned),
            *(v for v in order if v > pinned),
        ]
    # If there is no other version, the canary is better than no answer.
    order += [v for v in usable if v == state.trial]
    return list(dict.fromkeys(order))


def stable_version(state: ReleaseState, versions: Iterable[int]) -> int | None:
    """Returns the version that answers by default, or None if none of ``versions`` may."""
    return next(iter(stable_candidates(state, versions)), None)


def rollback_version(state: ReleaseState, versions: Collection[int]) -> int | None:
    """Returns the version that a roll-back of the stable one would make stable, if any."""
    stable = stable_version(state, versions)
    older = [v for v in stable_candidates(state, versions) if stable is not None and v < stable]
    return max(older, default=None)


def in_use(state: ReleaseState, versions: Collection[int]) -> set[int]:
    """Returns those of ``versions`` that must not be deleted.

    These are the stable version, the pinned one, the canary, and the version that a
    roll-back would make stable.

    Args:
      state: The release state.
      versions: The complete versions.
    """
    named = {
        stable_version(state, versions),
        rollback_version(state, versions),
        state.stable,
        state.trial,
    }
    return {v for v in versions if v in named}


def parse(text: str, where: str) -> ReleaseState:
    """Reads the JSON that ``to_json`` wrote.

    Args:
      text: Content of the file.
      where: Path of the file, for messages.

    Raises:
      ReleaseError: if the file is damaged or has a later format.
    """
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"expected a JSON object, got {_kind(fields)}")
        if (number := fields.pop("format", None)) != FORMAT:
            raise ValueError(
                f"expected format {FORMAT}, got {number!r}; a later version of this program may "
                "have written it"
            )
        return _state(fields)
    except (ValueError, TypeError) as e:
        raise ReleaseError(
            f"The release state {where} cannot be used: {e}. Repair it, or remove it to serve the "
            "newest version again"
        ) from e


def to_json(state: ReleaseState) -> str:
    """Returns ``state`` as JSON that people and programs can read."""
    values = dataclasses.asdict(state)
    values["withdrawn"] = {str(v): values["withdrawn"][v] for v in sorted(values["withdrawn"])}
    return json.dumps({"format": FORMAT, **values}, indent=2, ensure_ascii=False) + "\n"


def _state(fields: dict[str, Any]) -> ReleaseState:
    _expect_keys(fields, ReleaseState, "the state")
    stable, canary = fields.get("stable"), fields.get("canary")
    withdrawn = _typed(fields.get("withdrawn", {}), dict, "withdrawn")
    history = _typed(fields.get("history", []), list, "history")
    return ReleaseState(
        stable=None if stable is None else _version(stable, "stable"),
        canary=None if canary is None else _canary(canary),
        withdrawn={
            _version_name(name): _texts(Withdrawal, entry, f"withdrawn {name}")
            for name, entry in withdrawn.items()
        },
        history=tuple(_texts(Change, entry, "history") for entry in history),
    )


def _canary(fields: Any) -> Canary:
    _expect_keys(fields, Canary, "canary")
    limits = fields.get("limits", {})
    _expect_keys(limits, CanaryLimits, "canary limits")
    return Canary(
        version=_version(fields.get("version"), "canary version"),
        share=_typed(fields.get("share"), float, "canary share"),
        holds_stable=_typed(fields.get("holds_stable", False), bool, "canary holds_stable"),
        limits=CanaryLimits(
            **{
                field.name: _typed(limits[field.name], type(field.default), field.name)
                for field in dataclasses.fields(CanaryLimits)
                if field.name in limits
            }
        ),
    )


def _texts(cls: Any, fields: Any, what: str) -> Any:
    _expect_keys(fields, cls, what)
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: _typed(fields.get(name), str, f"{what} {name}") for name in names})


def _version(value: Any, what: str) -> int:
    if _typed(value, int, what) < 0:
        raise ValueError(f"{what}: expected a version number, got {value}")
    return value


def _version_name(name: str) -> int:
    if not (name.isascii() and name.isdigit()):
        raise ValueError(f"withdrawn: expected a version number, got {name!r}")
    return int(name)


def _typed(value: Any, kind: type, what: str) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{what}: expected {kind.__name__}, got {_kind(value)}")
    return value


def _expect_keys(fields: Any, cls: Any, what: str) -> None:
    _typed(fields, dict, what)
    known = {field.name for field in dataclasses.fields(cls)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"{what}: unknown keys {unknown}; expected {sorted(known)}")


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.80}"
