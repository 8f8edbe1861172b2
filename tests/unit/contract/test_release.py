"""Which version is stable, what may be deleted, and what each change leaves."""

import json

import pytest

from contract import release_changes as changes
from contract.release import (
    MAX_HISTORY,
    Canary,
    CanaryLimits,
    Change,
    ReleaseError,
    ReleaseState,
    Withdrawal,
    in_use,
    parse,
    rollback_version,
    stable_candidates,
    stable_version,
    to_json,
)

BAD = Withdrawal(at="2026-11-26T12:00:00+00:00", by="ann", reason="bad")
LIMITS = CanaryLimits()


def state(stable=None, canary=None, withdrawn=(), holds=False):
    trial = Canary(version=canary, share=0.1, holds_stable=holds) if canary else None
    return ReleaseState(stable=stable, canary=trial, withdrawn=dict.fromkeys(withdrawn, BAD))


def rolled_back(before, versions, **options):
    return changes.roll_back(before, versions, by="ann", reason="bad", **options)


@pytest.mark.parametrize(
    ("now", "serving", "expected"),
    [
        (state(), None, [9, 7, 5, 3]),
        (state(withdrawn=[9]), None, [7, 5, 3]),
        (state(withdrawn=[9, 7, 5, 3]), 9, []),
        # A pinned version, then what serves, then older ones, then newer ones.
        (state(stable=5), None, [5, 3, 9, 7]),
        (state(stable=5), 9, [5, 9, 3, 7]),
        (state(stable=5, withdrawn=[9]), 9, [5, 3, 7]),
        (state(stable=6), None, [5, 3, 9, 7]),
        # A canary only if nothing else is left.
        (state(stable=7, canary=9), None, [7, 5, 3, 9]),
        (state(canary=9, withdrawn=[7, 5, 3]), None, [9]),
    ],
)
def test_the_first_candidate_is_stable_and_the_others_stand_in_for_it(now, serving, expected):
    assert stable_candidates(now, [3, 9, 5, 7], serving) == expected
    if serving is None:
        assert stable_version(now, [3, 9, 5, 7]) == next(iter(expected), None)


@pytest.mark.parametrize(
    ("now", "back", "used"),
    [
        (state(), 7, {9, 7}),
        (state(withdrawn=[9]), 5, {7, 5}),
        (state(withdrawn=[9, 5]), 3, {7, 3}),
        (state(stable=3), None, {3}),
        (state(stable=7, canary=9), 5, {9, 7, 5}),
        (state(stable=6), 3, {5, 3}),
    ],
)
def test_what_a_roll_back_needs_must_not_be_deleted(now, back, used):
    assert rollback_version(now, [3, 5, 7, 9]) == back
    assert in_use(now, [3, 5, 7, 9]) == used


def test_a_roll_back_takes_the_newest_older_version_and_later_pushes_are_served():
    after = rolled_back(state(), [5, 7, 9])
    assert stable_version(after, [5, 7, 9]) == 7
    assert after.withdrawn[9].reason == "bad"
    assert after.withdrawn[9].by == after.history[-1].by == "ann"
    assert stable_version(after, [5, 7, 9, 11]) == 11
    twice = rolled_back(after, [5, 7, 9])
    assert stable_version(twice, [5, 7, 9]) == 5
    assert set(twice.withdrawn) == {7, 9}


def test_a_roll_back_to_a_version_withdraws_those_between():
    after = rolled_back(state(), [3, 5, 7, 9], to=5)
    assert (stable_version(after, [3, 5, 7, 9, 11]), set(after.withdrawn)) == (11, {7, 9})
    assert stable_version(after, [3, 5, 7, 9]) == 5


def test_a_roll_back_moves_the_pin():
    after = rolled_back(state(stable=7), [3, 5, 7, 9])
    assert (after.stable, set(after.withdrawn)) == (5, {7})
    assert stable_version(after, [3, 5, 7, 9, 11]) == 5


def test_a_roll_back_of_the_stable_version_leaves_the_canary():
    after = rolled_back(state(stable=7, canary=9, holds=True), [5, 7, 9])
    assert (after.stable, after.trial, set(after.withdrawn)) == (5, 9, {7})


@pytest.mark.parametrize(
    ("now", "versions", "to", "message"),
    [
        (state(), [9], None, "no complete version before it may be served; complete versions: 9"),
        (state(withdrawn=[5, 7]), [5, 7, 9], None, r"\(withdrawn: 5, 7\)"),
        (state(), [], None, "No version is stable"),
        (state(withdrawn=[7]), [5, 7, 9], 7, r"Version 7 was itself withdrawn \(bad\)"),
        (state(), [5, 7, 9], 6, "Version 6 does not exist or .*; complete versions: 5, 7, 9"),
        (state(), [5, 7, 9], 9, "not older than the stable version 9"),
        (state(stable=9, canary=7), [5, 7, 9], 7, "on trial as a canary; promote it"),
    ],
)
def test_a_roll_back_that_would_leave_nothing_is_refused(now, versions, to, message):
    with pytest.raises(ReleaseError, match=message):
        rolled_back(now, versions, to=to)


def test_promotion_lifts_a_withdrawal_and_pins_only_where_a_newer_version_would_win():
    newest = changes.promote(state(withdrawn=[9]), [7, 9], 9, by="ann")
    assert (newest.stable, newest.withdrawn) == (None, {})
    older = changes.promote(state(), [7, 9], 7, by="ann")
    assert older.stable == 7
    # Somebody pinned 7: what is promoted takes its place.
    moved = changes.promote(state(stable=7), [7, 9], 9, by="ann")
    assert moved.stable == 9
    with pytest.raises(ReleaseError, match="Version 8 does not exist"):
        changes.promote(state(), [7, 9], 8, by="ann")


def trial(now, versions, version, share=0.1):
    return changes.start_canary(now, versions, version, share=share, limits=LIMITS, by="ann")


def test_a_canary_holds_the_stable_version_until_it_is_promoted():
    after = trial(state(), [5, 7, 9], 9)
    assert (after.stable, after.trial, after.is_pinned) == (7, 9, False)
    # A push during the trial is not served.
    assert stable_version(after, [5, 7, 9, 11]) == 7
    assert trial(after, [5, 7, 9], 9, share=0.5).canary.share == 0.5
    with pytest.raises(ReleaseError, match="Version 9 is on trial as a canary"):
        trial(after, [5, 7, 9, 11], 11)
    promoted = changes.promote(after, [5, 7, 9], 9, by="ann")
    assert (promoted.stable, promoted.canary) == (None, None)
    # With a version that was pushed meanwhile, what was promoted is what is served.
    assert changes.promote(after, [5, 7, 9, 11], 9, by="ann").stable == 9


def test_a_canary_that_is_withdrawn_leaves_things_as_before_it():
    before = trial(state(), [5, 7, 9], 9)
    after = changes.end_canary(before, by="server", reason="errors")
    assert (after.stable, after.canary, after.withdrawn[9].reason) == (None, None, "errors")
    assert stable_version(after, [5, 7, 9]) == 7
    # A pin that was there before stays.
    pinned = changes.end_canary(trial(state(stable=5), [5, 7, 9], 9), by="x", reason="errors")
    assert pinned.stable == 5
    # Somebody was faster.
    assert changes.end_canary(after, by="x", reason="late", version=9) is after
    with pytest.raises(ReleaseError, match="No version is on trial"):
        changes.end_canary(after, by="ann", reason="none")


@pytest.mark.parametrize(
    ("now", "versions", "version", "share", "message"),
    [
        (state(), [9], 9, 0.1, r"no other version could be stable .*\(complete versions: 9\)"),
        (state(withdrawn=[7]), [7, 9], 9, 0.1, r"no other version .*\(complete versions: 7, 9\)"),
        (state(stable=9), [7, 9], 9, 0.1, "Version 9 is pinned as the stable version"),
        (state(), [7, 9], 8, 0.1, "Version 8 does not exist"),
        (state(), [7, 9], 9, 1.0, "between 0 and 1, such as 0.05; got 1"),
        (state(), [7, 9], 9, float("nan"), "between 0 and 1"),
    ],
)
def test_trials_that_cannot_be(now, versions, version, share, message):
    with pytest.raises(ReleaseError, match=message):
        trial(now, versions, version, share)


def test_pins():
    pinned = changes.pin(state(), [7, 9], None, by="ann")
    assert pinned.stable == 9
    assert stable_version(pinned, [7, 9, 11]) == 9
    assert changes.unpin(pinned, [7, 9, 11], by="ann").stable is None
    # During a trial, a pin outlasts it, and unpinning waits for its end.
    during = changes.pin(trial(state(), [5, 7, 9], 9), [5, 7, 9], 7, by="ann")
    assert during.is_pinned
    unpinned = changes.unpin(during, [5, 7, 9], by="ann")
    assert (unpinned.stable, unpinned.is_pinned) == (7, False)
    for refused, message in (
        (lambda: changes.pin(state(withdrawn=[7]), [7, 9], 7, by="x"), "was withdrawn"),
        (lambda: changes.pin(state(stable=7, canary=9), [7, 9], 9, by="x"), "promote it first"),
        (lambda: changes.pin(state(withdrawn=[9]), [9], None, by="x"), r"withdrawn: 9"),
        (lambda: changes.unpin(state(), [9], by="x"), "No version is pinned"),
    ):
        with pytest.raises(ReleaseError, match=message):
            refused()


def test_the_history_is_bounded():
    now = ReleaseState(history=tuple(Change(at="", by="", what=str(n)) for n in range(MAX_HISTORY)))
    after = changes.pin(now, [9], 9, by="ann")
    assert [change.what for change in after.history[:1]] == ["1"]
    assert after.history[-1].what == "pinned 9"
    assert len(after.history) == MAX_HISTORY


def test_the_json_is_read_back():
    now = trial(rolled_back(state(), [5, 7, 9]), [5, 7, 9], 5, share=0.25)
    assert parse(to_json(now), "f") == now
    assert json.loads(to_json(now))["format"] == 1
    assert parse('{"format": 1}', "f") == ReleaseState()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "expected a JSON object"),
        ("{}", "expected format 1, got None"),
        ('{"format": 2}', "expected format 1, got 2; a later version"),
        ('{"format": 1, "stabel": 5}', r"unknown keys \['stabel'\]; expected"),
        ('{"format": 1, "stable": "5"}', "stable: expected int, got '5'"),
        ('{"format": 1, "stable": true}', "stable: expected int, got True"),
        ('{"format": 1, "stable": -1}', "expected a version number, got -1"),
        ('{"format": 1, "canary": {"version": 5}}', "canary share: expected float, got nothing"),
        ('{"format": 1, "canary": {"version": 5, "share": 2}}', "between 0 and 1"),
        (
            '{"format": 1, "canary": {"version": 5, "share": 0.1, "limits": {"min_requests": 0}}}',
            "min_requests must be at least 1, got 0",
        ),
        (
            '{"format": 1, "stable": 5, "canary": {"version": 5, "share": 0.1}}',
            "cannot be both stable and canary",
        ),
        ('{"format": 1, "withdrawn": {"x": {}}}', "withdrawn: expected a version number, got 'x'"),
        ('{"format": 1, "withdrawn": {"5": {"at": "now"}}}', "withdrawn 5 by: expected str"),
        (
            '{"format": 1, "stable": 5, "withdrawn": {"5": {"at": "", "by": "", "reason": ""}}}',
            "Version 5 cannot be both stable and withdrawn",
        ),
        ('{"format": 1, "history": [5]}', "history: expected dict, got 5"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(text, message):
    with pytest.raises(ReleaseError, match=f"The release state f cannot be used: .*{message}"):
        parse(text, "f")
