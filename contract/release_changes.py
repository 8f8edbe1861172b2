"""Changes of the release state, such as promotion, roll-back and pin.

Each function returns a new state or raises ``ReleaseError``. ``versions`` are the complete
versions, and ``by`` names the person or program that makes the change. A change that would
leave no version to serve is refused.
"""

import dataclasses
import datetime
from collections.abc import Collection, Iterable

from contract.release import (
    MAX_HISTORY,
    Canary,
    CanaryLimits,
    Change,
    ReleaseError,
    ReleaseState,
    Withdrawal,
    rollback_version,
    stable_version,
)


def promote(
    state: ReleaseState, versions: Collection[int], version: int, *, by: str
) -> ReleaseState:
    """Makes ``version`` stable, ends its trial as a canary, and lifts its withdrawal.

    The version is pinned if another version was pinned. It is also pinned if it is not the
    newest, because the newest version would otherwise be stable.

    Raises:
      ReleaseError: if the version does not exist or is not complete, or if another version is
        on trial.
    """
    _require_present(versions, version)
    _require_no_other_canary(state, version)
    withdrawn = {v: w for v, w in state.withdrawn.items() if v != version}
    newest = stable_version(ReleaseState(withdrawn=withdrawn), versions)
    pin = version if state.is_pinned or version != newest else None
    changed = ReleaseState(stable=pin, withdrawn=withdrawn, history=state.history)
    return _noted(changed, by, f"promoted {version}{' and pinned it' if pin else ''}")


def start_canary(
    state: ReleaseState,
    versions: Collection[int],
    version: int,
    *,
    share: float,
    limits: CanaryLimits,
    by: str,
) -> ReleaseState:
    """Puts ``version`` on trial with a share of the traffic, or changes its share and limits.

    The stable version stays the same until the trial ends. If the newest version is
    stable and is put on trial, the version before it becomes stable.

    Raises:
      ReleaseError: if the version does not exist or is not complete, is pinned as stable, or
        is the only one that can be served; if another version is on trial; or if the share is
        out of range.
    """
    _require_present(versions, version)
    _require_no_other_canary(state, version)
    if state.stable == version:
        raise ReleaseError(
            f"Version {version} is pinned as the stable version and cannot also be the canary. "
            "First pin the version that is to be stable during the trial"
        )
    canary = Canary(version=version, share=share, limits=limits, holds_stable=not state.is_pinned)
    withdrawn = {v: w for v, w in state.withdrawn.items() if v != version}
    trial = dataclasses.replace(state, canary=canary, withdrawn=withdrawn)
    stable = stable_version(trial, versions)
    if stable is None or stable == version:
        raise ReleaseError(
            f"Version {version} cannot be a canary: no other version could be stable during the "
            f"trial (complete versions: {_listed(versions)})"
        )
    return _noted(
        dataclasses.replace(trial, stable=stable),
        by,
        f"put {version} on trial with a share of {share:g}; {stable} is stable",
    )


def roll_back(
    state: ReleaseState,
    versions: Collection[int],
    *,
    by: str,
    reason: str,
    to: int | None = None,
) -> ReleaseState:
    """Withdraws the stable version; the newest older one that may be served becomes stable.

    A version that is pushed later is served as usual, unless the stable version was pinned.
    In that case, the pin moves to the older version.

    Args:
      state: The state before the roll-back.
      versions: The complete versions.
      by: The person or program that rolls back.
      reason: Why the stable version is withdrawn.
      to: The version to go back to. The versions between it and the stable one are withdrawn,
        too, except a canary. None goes back to the newest older version that may be served.

    Raises:
      ReleaseError: if there is no version to go back to, or if ``to`` does not exist, was
        withdrawn, is on trial, or is not older than the stable version.
    """
    stable = stable_version(state, versions)
    if stable is None:
        raise ReleaseError(
            "No version is stable, so that none can be rolled back; complete versions: "
            f"{_listed(versions)}"
        )
    target = rollback_version(state, versions) if to is None else to
    if target is None:
        raise ReleaseError(
            f"Version {stable} cannot be rolled back: no complete version before it may be served; "
            f"complete versions: {_listed(versions)}{_withdrawn(state, versions)}. Push another "
            "version, or promote one of these"
        )
    if to is not None:
        _require_present(versions, to)
        if to in state.withdrawn:
            raise ReleaseError(
                f"Version {to} was itself withdrawn ({state.withdrawn[to].reason}); promote it if "
                "it is to be served again"
            )
        if to == state.trial:
            raise ReleaseError(f"Version {to} is on trial as a canary; promote it instead")
        if to >= stable:
            raise ReleaseError(
                f"Version {to} is not older than the stable version {stable}; promote it instead"
            )
    leave = [v for v in versions if target < v <= stable and v != state.trial]
    changed = _withdraw(state, leave, by, reason)
    pin = None if state.stable is None else target
    return _noted(
        dataclasses.replace(changed, stable=pin),
        by,
        f"withdrew {', '.join(map(str, sorted(leave)))} ({reason}); {target} is stable",
    )


def end_canary(
    state: ReleaseState, *, by: str, reason: str, version: int | None = None
) -> ReleaseState:
    """Withdraws the canary; the stable version stays.

    Args:
      state: The state before the change.
      by: The person or program that ends the trial.
      reason: Why the canary is withdrawn.
      version: The expected canary. If another version or none is on trial, somebody else was
        faster, and the state is returned unchanged. None withdraws any canary.

    Raises:
      ReleaseError: if ``version`` is None and there is no canary.
    """
    if state.canary is None or version not in (None, state.canary.version):
        if version is None:
            raise ReleaseError("No version is on trial as a canary, so that none can be withdrawn")
        return state
    canary = state.canary
    changed = dataclasses.replace(
        state, canary=None, stable=None if canary.holds_stable else state.stable
    )
    return _noted(
        _withdraw(changed, [canary.version], by, reason),
        by,
        f"withdrew the canary {canary.version} ({reason})",
    )


def pin(
    state: ReleaseState, versions: Collection[int], version: int | None, *, by: str
) -> ReleaseState:
    """Keeps ``version`` stable whatever is pushed later; None keeps the current stable version.

    Raises:
      ReleaseError: if the version does not exist or is not complete, is withdrawn, or is on
        trial; or if ``version`` is None and no version is stable.
    """
    if version is None:
        version = stable_version(state, versions)
        if version is None:
            raise ReleaseError(
                "No version is stable, so that none can be pinned; complete versions: "
                f"{_listed(versions)}{_withdrawn(state, versions)}"
            )
    _require_present(versions, version)
    if version in state.withdrawn:
        raise ReleaseError(
            f"Version {version} was withdrawn ({state.withdrawn[version].reason}); promote it if "
            "it is to be served again"
        )
    canary = state.canary
    if version == state.trial:
        raise ReleaseError(f"Version {version} is on trial as a canary; promote it first")
    kept = canary and dataclasses.replace(canary, holds_stable=False)
    return _noted(dataclasses.replace(state, stable=version, canary=kept), by, f"pinned {version}")


def unpin(state: ReleaseState, versions: Collection[int], *, by: str) -> ReleaseState:
    """Lets the newest version be stable again; during a trial, this takes effect at its end.

    Raises:
      ReleaseError: if no version is pinned, or no version could be served without the pin.
    """
    if not state.is_pinned:
        raise ReleaseError("No version is pinned")
    canary = state.canary and dataclasses.replace(state.canary, holds_stable=True)
    changed = dataclasses.replace(state, stable=state.stable if canary else None, canary=canary)
    if stable_version(changed, versions) is None:
        raise ReleaseError(f"No version could be served without the pin on {state.stable}")
    return _noted(changed, by, f"unpinned {state.stable}")


def _withdraw(state: ReleaseState, versions: Iterable[int], by: str, reason: str) -> ReleaseState:
    entry = Withdrawal(at=_now(), by=by, reason=reason)
    withdrawn = {**state.withdrawn, **dict.fromkeys(versions, entry)}
    # The caller replaces the pin on a withdrawn version.
    pinned = None if state.stable in withdrawn else state.stable
    return dataclasses.replace(state, withdrawn=withdrawn, stable=pinned)


def _noted(state: ReleaseState, by: str, what: str) -> ReleaseState:
    history = (*state.history, Change(at=_now(), by=by, what=what))
    return dataclasses.replace(state, history=history[-MAX_HISTORY:])


def _require_present(versions: Collection[int], version: int) -> None:
    if version not in versions:
        raise ReleaseError(
            f"Version {version} does not exist or is not complete; complete versions: "
            f"{_listed(versions)}"
        )


def _require_no_other_canary(state: ReleaseState, version: int) -> None:
    if state.trial not in (None, version):
        raise ReleaseError(
            f"Version {state.trial} is on trial as a canary; promote it or withdraw it first"
        )


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"


def _withdrawn(state: ReleaseState, versions: Collection[int]) -> str:
    named = sorted(v for v in versions if v in state.withdrawn)
    return f" (withdrawn: {', '.join(map(str, named))})" if named else ""


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
