"""Which rails stop, and which warn."""

import pytest

from contract.config_types import config_dataclass
from contract.guard_rails import (
    Finding,
    GuardRailsBase,
    from_json,
    full_training_because,
    stopping,
    to_json,
    warnings,
)


@config_dataclass
class _Rails(GuardRailsBase):
    warn_by_default = ("gaps",)

    volume: float = 1.0
    drift: float = 1.0
    gaps: float = 1.0
    min_events: int = 5  # no rail


def test_a_rail_does_what_it_is_told_or_else_its_default():
    told = _Rails(stop=("gaps",), warn=("volume",)).actions()
    assert told == {"volume": "warn", "drift": "stop", "gaps": "stop"}
    assert _Rails(off=("drift",)).actions() == {
        "volume": "stop",
        "drift": "off",
        "gaps": "warn",
    }


def test_a_misspelt_rail_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown guard rail 'volum' in 'warn'. Did you mean"):
        _Rails(warn=("volum",))


def test_a_rail_cannot_be_told_two_things():
    with pytest.raises(ValueError, match="'drift' is in 'stop' and in 'off'"):
        _Rails(stop=("drift",), off=("drift",))


def test_findings_by_what_they_do():
    found = [
        Finding("volume", "half", tripped=True, stops=True),
        Finding("gaps", "far", tripped=True, stops=False),
        Finding("drift", "none", tripped=False, stops=True),
    ]
    assert stopping(found) == found[:1]
    assert warnings(found) == found[1:2]
    assert from_json(to_json(found)) == found


def test_only_rails_that_are_hit_and_told_to_ask_for_a_full_training():
    found = [
        Finding("volume", "half", tripped=True, stops=False, asks_full=True),
        Finding("gaps", "far", tripped=True, stops=False),
        Finding("drift", "none", tripped=False, stops=False, asks_full=True),
        Finding("churn", "much", tripped=True, stops=False, asks_full=True),
    ]
    assert full_training_because(found) == "half (volume); much (churn)"
    assert [f.rail for f in warnings(found)] == ["volume", "gaps", "churn"]
