"""Guard rails on data, by hand: what is allowed at the limit, and not beyond it."""

import pytest

from components.data_gate.config import DataRailsConfig
from components.data_gate.rails import judge_features, judge_log, judge_spans, log_measures
from contract.guard_rails import stopping

_USUAL = {
    "events": 1000,
    "bad_share": 0.001,
    "people": 200,
    "busiest_person": 60,
    "repeated_share": 0.0,
    "early_share": 0.1,
    "future_share": 0.0,
    "new_item_share": 0.05,
    "new_people_share": 0.2,
    "item_drift": 0.01,
    "activity_drift": 0.01,
    "gap_drift": 0.01,
}
_FIRST = {name: value for name, value in _USUAL.items() if name[-5:] in ("vents", "erson")} | {
    "bad_share": 0.0,
    "people": 200,
    "future_share": 0.0,
    **dict.fromkeys(
        name for name in _USUAL if name.endswith(("_drift", "_share")) and name[0] not in "bf"
    ),
}


def _hit(*spans, **limits):
    named = [{"name": str(n), **span} for n, span in enumerate(spans)]
    return [f.rail for f in judge_spans(named, DataRailsConfig(**limits)) if f.tripped]


def _newest(**changed):
    return _hit(_FIRST, {**_USUAL, "events": 1200}, {**_USUAL, **changed})


@pytest.mark.parametrize(
    ("changed", "rail"),
    [
        ({"events": 700}, ""),  # 0.7 times the 1,000 of the first span
        ({"events": 699}, "least_events"),
        ({"events": 3600}, ""),
        ({"events": 3601}, "most_events"),
        ({"bad_share": 0.0059}, ""),
        ({"bad_share": 0.0061}, "bad_rows"),
        ({"busiest_person": 600}, ""),
        ({"busiest_person": 601}, "busiest_person"),
        ({"repeated_share": 0.51}, "repeated_events"),
        ({"early_share": 0.51}, "early_events"),
        ({"future_share": 0.011}, "future_events"),
        ({"new_item_share": 0.34}, ""),
        ({"new_item_share": 0.36}, "new_items"),
        ({"new_people_share": 0.51}, "new_people"),
        ({"item_drift": 0.05}, ""),  # 0.01 in the span before
        ({"item_drift": 0.07}, "item_drift"),
        ({"activity_drift": 0.12}, "activity_drift"),
        ({"gap_drift": 0.12}, "gap_drift"),
    ],
)
def test_each_limit(changed, rail):
    assert _newest(**changed) == ([rail] if rail else [])


def test_a_drift_that_cannot_be_measured_is_not_judged():
    judged = {"item_drift", "activity_drift", "gap_drift"}
    for name in sorted(judged):
        spans = [{**_FIRST, "name": "1"}, {**_USUAL, "name": "2"}]
        findings = judge_spans([*spans, {**_USUAL, "name": "3", name: None}], DataRailsConfig())
        assert {f.rail for f in findings} & judged == judged - {name}


def test_what_is_new_is_compared_with_spans_that_know_a_past():
    # In the second span of a window nearly everybody is new.
    young = {**_USUAL, "new_people_share": 0.9, "item_drift": 0.5}
    usual = [_USUAL] * 3
    newest = {**_USUAL, "new_people_share": 0.6, "item_drift": 0.2}
    assert _hit(_FIRST, young, *usual, newest) == ["new_people", "item_drift"]
    assert _hit(_FIRST, _USUAL, young, _USUAL, newest) == []


def test_a_window_that_is_too_short_is_not_compared():
    odd = {**_USUAL, "events": 10_000, "busiest_person": 9_000, "item_drift": 0.9}
    assert _hit(odd) == []
    assert _hit(_FIRST, odd) == []
    assert _hit(_FIRST, odd, min_earlier_spans=1) == ["most_events", "busiest_person"]
    assert _hit({**_FIRST, "future_share": 0.5}) == ["future_events"]


def test_shares_of_few_events_are_not_judged_but_their_number_is():
    assert _newest(events=400, item_drift=0.9, repeated_share=0.9) == ["least_events"]


def test_what_rails_do_when_they_are_hit():
    spans = [{"name": "1", **_FIRST}, {"name": "2", **_USUAL}, {"name": "3", **_USUAL}]
    spans[-1] |= {"events": 100, "gap_drift": 0.9, "repeated_share": 0.9}

    def stops(**told):
        found = judge_spans(spans, DataRailsConfig(min_events=50, **told))
        return [finding.rail for finding in stopping(found)]

    assert stops() == ["repeated_events", "least_events"]
    assert stops(warn=("least_events",), stop=("gap_drift",)) == ["repeated_events", "gap_drift"]
    assert stops(off=("least_events", "repeated_events")) == []


def test_a_log_read_whole_is_compared_with_the_one_accepted_before():
    report = {
        "tables": {"interactions": {"read": 1000, "bad": {"missing_item_id": 10}}},
        "events": {"valid": 990},
        "future_events": {"a.csv": 9, "b.csv": 3},
    }
    now = log_measures(report)
    assert now == {"events": 990, "bad_share": 0.01, "future_share": pytest.approx(12 / 990)}

    def hit(accepted):
        return [f.rail for f in judge_log(now, accepted, DataRailsConfig()) if f.tripped]

    assert hit(None) == ["future_events"]
    assert hit({"events": 1414, "bad_share": 0.006}) == ["future_events"]
    assert hit({"events": 1415, "bad_share": 0.004}) == [
        "future_events",
        "least_events",
        "bad_rows",
    ]
    # It may have grown by any number.
    assert hit({"events": 3, "bad_share": 0.01}) == ["future_events"]


def test_features_are_judged_one_by_one():
    found = judge_features(
        {("catalog", "item_genre"): 0.2, ("train", "user_age"): 0.1}, DataRailsConfig()
    )
    assert [(f.tripped, "item_genre" in f.message) for f in found] == [(True, True), (False, False)]
