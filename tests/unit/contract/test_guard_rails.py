"""Which rails stop, and which warn."""

import pytest

from contract.guard_rails import Finding, actions, from_json, stopping, to_json, warnings

_RAILS = ("volume", "drift", "gaps")


def test_a_rail_does_what_it_is_told_or_else_its_default():
    told = actions(_RAILS, ["gaps"], stop=["gaps"], warn=["volume"], off=[])
    assert told == {"volume": "warn", "drift": "stop", "gaps": "stop"}
    assert actions(_RAILS, ["gaps"], stop=[], warn=[], off=["drift"]) == {
        "volume": "stop",
        "drift": "off",
        "gaps": "warn",
    }


def test_a_misspelt_rail_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown guard rail 'volum' in 'warn'. Did you mean"):
        actions(_RAILS, [], stop=[], warn=["volum"], off=[])


def test_a_rail_cannot_be_told_two_things():
    with pytest.raises(ValueError, match="'drift' is in 'stop' and in 'off'"):
        actions(_RAILS, [], stop=["drift"], warn=[], off=["drift"])


def test_findings_by_what_they_do():
    found = [
        Finding("volume", "half", tripped=True, stops=True),
        Finding("gaps", "far", tripped=True, stops=False),
        Finding("drift", "none", tripped=False, stops=True),
    ]
    assert stopping(found) == found[:1]
    assert warnings(found) == found[1:2]
    assert from_json(to_json(found)) == found
