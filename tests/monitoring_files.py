"""The files of deploy/monitoring, and what of metrics their expressions ask for."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = (FOLDER / "recording.rules.yaml", FOLDER / "alerts.rules.yaml")
TESTS = (FOLDER / "alerts_test.yaml", FOLDER / "alerts_days_test.yaml")

_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_NAME = re.compile(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_KEYWORDS = {"and", "or", "unless", "offset", "bool"}


@dataclasses.dataclass(frozen=True)
class Selector:
    """One use of a metric: its name, and matchers (label, operator, value)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Expression:
    """What a PromQL expression asks for.

    Attributes:
      selectors: The metrics.
      grouped: Labels that it groups or matches by.
    """

    selectors: tuple[Selector, ...]
    grouped: frozenset[str]


def parse(text: str) -> Expression:
    """Reads as much of an expression as these files use."""
    grouped = {
        label.strip() for labels in _GROUPING.findall(text) for label in labels.split(",") if label
    }
    text = _GROUPING.sub(" ", text)
    selectors = [
        Selector(name, tuple(_MATCHER.findall(body))) for name, body in _SELECTOR.findall(text)
    ]
    text = re.sub(r"\[[^\]]*\]", " ", _SELECTOR.sub(" ", text))
    names = set(_NAME.findall(text)) - _KEYWORDS
    selectors += [Selector(name) for name in sorted(names)]
    return Expression(tuple(selectors), frozenset(grouped))


def rules() -> Iterator[dict[str, Any]]:
    """The rules of both files."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    return json.loads((FOLDER / "dashboard.json").read_text())


def queries() -> list[str]:
    """The dashboard's expressions, those of its variables included."""
    found = [t["expr"] for panel in dashboard()["panels"] for t in panel.get("targets", ())]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(
                r"label_values\((.*), (\w+)\)", variable["definition"]
            ).groups()
            found.append(f"sum by ({label}) ({metric})")
    return found
