"""What a request may say of people, and what is refused."""

import pytest

from contract.histories import (
    Event,
    HistoryError,
    Profile,
    Retention,
    parse_reports,
)

_NOW = 1_795_000_000.0


def _event(**fields):
    return {"user_id": "u", "item_id": "i", "time": 5, **fields}


def test_events_and_profiles_are_read_by_person():
    events = [_event(time=7.9), _event(user_id="v"), _event(item_id="j", time=_NOW + 3600)]
    profiles = [
        {"user_id": "w", "features": {"age": "7", "city": ""}},
        {"user_id": "u", "features": {"age": "8"}, "time": 9},
        {"user_id": "u", "features": {"age": "6"}, "time": 8},
    ]
    reports = parse_reports(events, profiles, {"age", "city"}, _NOW)
    assert reports["u"].events == [Event(7, "i"), Event(int(_NOW + 3600), "j")]
    assert reports["u"].profile == Profile(9, {"age": "8"})
    assert reports["v"].events == [Event(5, "i")]
    assert (reports["w"].events, reports["w"].profile) == ([], Profile(int(_NOW), {"age": "7"}))


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ("u", "must be a JSON object with user_id, item_id, time, got 'u'"),
        (_event(timestamp=5), r"no field 'timestamp' \(did you mean 'time'\?\)"),
        (_event(item=5), r"no field 'item' \(did you mean"),
        (_event(user_id=""), "A user_id must be a string of 1 to 1000 characters, got ''"),
        (_event(user_id=7), "A user_id must be a string of 1 to 1000 characters, got 7"),
        ({"user_id": "u", "time": 5}, "item_id of an event must be a string .*, got None"),
        (_event(item_id="i" * 1001), "of 1 to 1000 characters"),
        (_event(time=0), "number of seconds since 1970.*; got 0"),
        (_event(time="5"), "got '5'"),
        (_event(time=True), "got True"),
        (_event(time=float("nan")), "got nan"),
        (_event(time=_NOW * 1000), "not milliseconds"),
        (_event(time=_NOW + 90_000), "at most a day ahead of the server's clock"),
    ],
)
def test_an_event_that_is_none(event, problem):
    with pytest.raises(HistoryError, match=problem):
        parse_reports([_event(), event], [], (), _NOW)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ({"aeg": "7"}, r"no profile feature 'aeg' \(did you mean 'age'\?\); it has age"),
        ({"age": 7}, r"'age' must be a string .*\(numbers as text\), got 7"),
        (["age"], "must be a JSON object of strings by feature"),
        (None, "must be a JSON object of strings by feature"),
    ],
)
def test_a_profile_that_is_none(features, problem):
    with pytest.raises(HistoryError, match=problem):
        parse_reports([], [{"user_id": "u", "features": features}], {"age"}, _NOW)


def test_how_long_events_are_kept():
    assert Retention(days=2).oldest(200_000.5) == 27_201
    assert Retention(days=0).oldest(200_000.5) == 0
