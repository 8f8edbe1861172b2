"""Makes a server follow the release state of a model, and reports where it cannot."""

import asyncio
import logging
from collections.abc import Collection

from contract import release_file
from contract.release import CANARY, STABLE, ReleaseError, ReleaseState
from serving.configured_model import ConfiguredModel
from serving.metrics import Metrics
from serving.servable import State

_log = logging.getLogger(__name__)


async def read_release(model: ConfiguredModel) -> str:
    """Reads the release state of ``model``.

    Returns:
      Why the state cannot be read; the state that was last read stays in force then.
    """
    try:
        model.release = await asyncio.to_thread(release_file.read, model.base_path)
    except ReleaseError as e:
        return str(e)
    except OSError as e:
        return f"The release state {e.filename} cannot be read ({e.strerror or e})"
    if model.rejected is not None and model.rejected[0] != model.release.trial:
        model.rejected = None
    return ""


def wanted_release(model: ConfiguredModel) -> ReleaseState:
    """Returns the state to follow: versions named by the server's configuration take precedence."""
    return model.release if model.policy.follows_release else ReleaseState()


def wanted_canary(model: ConfiguredModel) -> int | None:
    """Returns the version to put on trial, unless this server has withdrawn it."""
    trial = wanted_release(model).trial
    return None if model.rejected is not None and model.rejected[0] == trial else trial


def mismatch(model: ConfiguredModel, present: Collection[int]) -> str:
    """Returns how the served versions differ from the release state; empty if they do not."""
    release = wanted_release(model)
    found = []
    if model.stable in release.withdrawn:
        found.append(
            f"version {model.stable} was withdrawn but stays in service, because no other version "
            "can be served"
        )
    elif model.stable is None and all(v in release.withdrawn for v in present):
        found.append("every version is withdrawn; promote one or push another")
    for label, wanted, serves in (
        (STABLE, release.stable, model.stable),
        (CANARY, release.trial, model.canary),
    ):
        if wanted is not None and wanted != serves and not _waits(model, wanted):
            found.append(f"version {wanted} should be {label}, but {_why_not(model, wanted)}")
    return "; ".join(found)


def note(model: ConfiguredModel, problem: str, metrics: Metrics) -> None:
    """Reports a problem with the release state: in the metrics, and once in the log."""
    if problem and problem != model.release_problem:
        _log.error("release state not followed", extra={"model": model.name, "error": problem})
    model.release_problem = problem
    metrics.release_problem.labels(model.name).set(bool(problem))
    for label, version in ((STABLE, model.stable), (CANARY, model.canary)):
        metrics.set_release_version(model.name, label, version)


def _waits(model: ConfiguredModel, version: int) -> bool:
    """Whether a version is merely still being written, as every version is at first."""
    servable = model.servables.get(version)
    return servable is not None and servable.state == State.START


def _why_not(model: ConfiguredModel, version: int) -> str:
    if model.rejected is not None and model.rejected[0] == version:
        return f"was withdrawn by this server ({model.rejected[1]}), which cannot write the state"
    servable = model.servables.get(version)
    if servable is None:
        return "does not exist"
    return servable.error.message if servable.error else "is not served"
