"""Findings of the gates, in the form that the gates, the summary and the report share."""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from contract.config_types import config_dataclass
from contract.errors import UserError

# File in the output of a gate.
FINDINGS_FILE = "findings.json"

Action = Literal["stop", "warn", "off", "full"]


class GuardRailError(UserError):
    """Raised when a guard rail refuses the data."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One guard rail, and what was measured for it.

    Attributes:
      rail: Name of the guard rail, as in the configuration.
      message: What was measured and what is allowed, in words.
      tripped: Whether the measured value is beyond the limit.
      stops: Whether the rail stops the model rather than only warns.
      asks_full: Whether the rail warns and also asks for training from scratch.
    """

    rail: str
    message: str
    tripped: bool
    stops: bool
    asks_full: bool = False


@config_dataclass
class GuardRailsBase:
    """Actions of a gate's guard rails; a subclass adds one float, the limit, for each rail.

    Attributes:
      stop: Rails that stop the model. Rails that are not named anywhere stop it as well, unless
        they are in ``warn_by_default``.
      warn: Rails that only warn.
      off: Rails that are not checked.
    """

    warn_by_default: ClassVar[tuple[str, ...]] = ()

    stop: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()
    off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.actions()

    def actions(self) -> dict[str, Action]:
        """Returns what each rail does when its limit is exceeded.

        Raises:
          ValueError: if a named rail does not exist, or if a rail is given two actions.
        """
        rails = [field.name for field in dataclasses.fields(self) if field.type is float]
        found: dict[str, Action] = {
            rail: "warn" if rail in self.warn_by_default else "stop" for rail in rails
        }
        told: dict[str, Action] = {}
        given: dict[Action, Sequence[str]] = {
            "stop": self.stop,
            "warn": self.warn,
            "off": self.off,
            "full": self.asking_full(),
        }
        for action, names in given.items():
            for name in names:
                if name not in rails:
                    close = difflib.get_close_matches(name, rails, n=1, cutoff=0.4)
                    hint = f"Did you mean {close[0]!r}? " if close else ""
                    raise ValueError(
                        f"unknown guard rail {name!r} in {action!r}. {hint}There are "
                        f"{', '.join(rails)}"
                    )
                if told.setdefault(name, action) != action:
                    raise ValueError(
                        f"guard rail {name!r} is in {told[name]!r} and in {action!r}; name it once"
                    )
        return {**found, **told}

    def asking_full(self) -> tuple[str, ...]:
        """Returns rails that ask for training from scratch; only gates before training have any."""
        return ()

    def finding(self, rail: str, message: str, tripped: bool) -> list[Finding]:
        """Returns the finding for a rail as a list, which is empty if the rail is off."""
        action = self.actions()[rail]
        if action == "off":
            return []
        return [Finding(rail, message, tripped, action == "stop", action == "full")]


def stopping(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings that stop the model."""
    return [finding for finding in findings if finding.tripped and finding.stops]


def warnings(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings that only warn."""
    return [finding for finding in findings if finding.tripped and not finding.stops]


def full_training_because(findings: Iterable[Finding]) -> str:
    """Returns the reasons to train from scratch; empty if no tripped rail asks for it."""
    return "; ".join(f"{f.message} ({f.rail})" for f in findings if f.tripped and f.asks_full)


def to_json(findings: Iterable[Finding]) -> str:
    """Returns the findings as a JSON list."""
    return json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1)


def from_json(text: str) -> list[Finding]:
    """Reads what ``to_json`` wrote."""
    return [Finding(**values) for values in json.loads(text)]
