"""Shows and changes which versions of a model are released: promote, canary, roll back, pin.

The release state is kept in release.json beside the versions. Servers read it at every poll
(--file_system_poll_wait_seconds), and load a version before they unload the previous one.

Examples:
  python -m serving.release status   --model_base_path output/serving_models/mind
  python -m serving.release rollback --model_base_path … --reason "empty answers since noon"
  python -m serving.release rollback --model_base_path … --to 1795518551
  python -m serving.release promote  --model_base_path … 1795697577 --canary 0.05
  python -m serving.release promote  --model_base_path … 1795697577
  python -m serving.release pin      --model_base_path …
  python -m serving.release unpin    --model_base_path …
  python -m serving.release model_config --model_base_path … > new && mv new models.config

Exit codes: 0 done; 1 refused or failed, and nothing was changed; 2 wrong usage
"""

import argparse
import dataclasses
import getpass
import json
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from contract import release_changes, release_file
from contract.release import (
    CANARY,
    STABLE,
    CanaryLimits,
    ReleaseError,
    ReleaseState,
    in_use,
    rollback_version,
    stable_version,
)
from contract.versions import local_complete_versions
from serving.config import DEFAULT_MODEL_NAME

EXIT_REFUSED = 1

_LIMIT_HELP = {
    "window_seconds": "how far back requests count",
    "min_requests": "requests of the canary in the window before it is judged",
    "max_error_increase": "how far the canary's share of errors may exceed the stable one's",
    "max_latency_ratio": "largest 95th percentile of the canary's latency over stable's",
    "max_empty_increase": "how far its share of empty answers may exceed the stable one's",
}


def parser() -> argparse.ArgumentParser:
    """Creates the parser of the command line."""
    summary, _, examples = (__doc__ or "").partition("\nExamples:")
    root = argparse.ArgumentParser(
        prog="python -m serving.release",
        description=summary,
        epilog="Examples:" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        added.add_argument(
            "--model_base_path", required=True, type=Path, help="directory of the versions"
        )
        return added

    def change(name: str, does: str) -> argparse.ArgumentParser:
        added = command(name, does)
        added.add_argument(
            "--by", default=_somebody(), help="who changes it (default: %(default)s)"
        )
        return added

    status = command("status", "print the stable, trial and withdrawn versions, and last changes")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    config = command(
        "model_config", "print a configuration that makes stock TF Serving serve the same"
    )
    config.add_argument(
        "--model_name",
        default=DEFAULT_MODEL_NAME,
        help="name in requests (default: %(default)s)",
    )
    config.add_argument(
        "--served_path", help="where TF Serving finds the versions (default: --model_base_path)"
    )
    promote = change("promote", "make a version stable, or put it on trial as a canary")
    promote.add_argument("version", type=int)
    promote.add_argument(
        "--canary",
        type=float,
        metavar="SHARE",
        help="put the version on trial with this share of the requests, such as 0.05",
    )
    defaults = CanaryLimits()
    for name, does in _LIMIT_HELP.items():
        value = getattr(defaults, name)
        promote.add_argument(
            f"--{name}",
            type=type(value),
            default=argparse.SUPPRESS,
            help=f"with --canary: {does} (default: {value})",
        )
    rollback = change(
        "rollback", "withdraw the stable version for the one before it, or withdraw the canary"
    )
    rollback.add_argument(
        "what",
        nargs="?",
        choices=(STABLE, CANARY),
        help="which version to withdraw; required while there is a canary",
    )
    rollback.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="go back to this version, and withdraw the versions in between as well",
    )
    rollback.add_argument("--reason", default="no reason given", help="recorded with it")
    pin = change("pin", "keep a version stable, whichever versions are pushed later")
    pin.add_argument("version", type=int, nargs="?", help="default: the current stable version")
    change("unpin", "let the newest version be stable again")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    flags = parser().parse_args(argv)
    limits = {name: value for name, value in vars(flags).items() if name in _LIMIT_HELP}
    if limits and flags.canary is None:
        parser().error(f"--{next(iter(limits))} is a limit of a canary; it needs --canary SHARE")
    try:
        base_path: Path = flags.model_base_path
        versions = _versions(base_path)
        if flags.command == "status":
            _print_status(release_file.read(base_path), versions, as_json=flags.json)
            return 0
        if flags.command == "model_config":
            # The stubs import TensorFlow, which the other commands do not need to wait for.
            from serving.model_config import model_server_config

            path = flags.served_path or str(base_path.resolve())
            state = release_file.read(base_path)
            print(
                model_server_config(state, versions, name=flags.model_name, base_path=path), end=""
            )
            return 0
        after = release_file.change(
            base_path, lambda before: _changed(flags, limits, before, versions)
        )
    except (ReleaseError, OSError) as e:
        unchanged = "" if flags.command in ("status", "model_config") else "Nothing was changed: "
        print(f"{unchanged}{e}", file=sys.stderr)
        return EXIT_REFUSED
    print(_sentence(after.history[-1].what))
    _print_status(after, versions, as_json=False)
    return 0


def _changed(
    flags: argparse.Namespace,
    limits: dict[str, Any],
    before: ReleaseState,
    versions: Collection[int],
) -> ReleaseState:
    if flags.command == "promote" and flags.canary is not None:
        return release_changes.start_canary(
            before,
            versions,
            flags.version,
            share=flags.canary,
            limits=CanaryLimits(**limits),
            by=flags.by,
        )
    if flags.command == "promote":
        return release_changes.promote(before, versions, flags.version, by=flags.by)
    if flags.command == "pin":
        return release_changes.pin(before, versions, flags.version, by=flags.by)
    if flags.command == "unpin":
        return release_changes.unpin(before, versions, by=flags.by)
    if flags.what == CANARY:
        if flags.to is not None:
            raise ReleaseError("--to is for the stable version; a canary is only withdrawn")
        return release_changes.end_canary(before, by=flags.by, reason=flags.reason)
    if before.canary and flags.what is None:
        raise ReleaseError(
            f"Version {stable_version(before, versions)} is stable and {before.trial} is on trial; "
            f"say which one to withdraw: `rollback {STABLE}` or `rollback {CANARY}`"
        )
    return release_changes.roll_back(
        before, versions, by=flags.by, reason=flags.reason, to=flags.to
    )


def _versions(base_path: Path) -> list[int]:
    if ":/" in str(base_path):  # Path turns // into /
        raise ReleaseError(
            f"{base_path} is in an object store; the release state needs a directory. Mount it"
        )
    return local_complete_versions(base_path)


def _print_status(state: ReleaseState, versions: Collection[int], *, as_json: bool) -> None:
    stable = stable_version(state, versions)
    back = rollback_version(state, versions)
    if as_json:
        facts = {
            STABLE: stable,
            "pinned": state.stable if state.is_pinned else None,
            CANARY: state.canary and dataclasses.asdict(state.canary),
            "rollback_to": back,
            "versions": sorted(versions),
            "in_use": sorted(in_use(state, versions)),
            "withdrawn": {
                str(v): dataclasses.asdict(w) for v, w in sorted(state.withdrawn.items())
            },
            "history": [dataclasses.asdict(change) for change in state.history],
        }
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    notes = {v: f"withdrawn {w.at} by {w.by}: {w.reason}" for v, w in state.withdrawn.items()}
    if state.canary:
        notes[state.canary.version] = f"canary, share {state.canary.share:g}"
    if stable is not None:
        kept = "pinned" if state.is_pinned else "held during the trial" if state.canary else ""
        notes[stable] = f"stable, {kept}" if kept else "stable"
    if back is not None:
        notes.setdefault(back, "a roll-back would go here")
    for version in sorted({*versions, *state.withdrawn}, reverse=True):
        gone = "" if version in versions else " (missing)"
        print(f"  {version}{gone}  {notes.get(version, '')}".rstrip())
    if state.stable is not None and state.stable not in versions:
        print(f"Version {state.stable} should be stable, but is missing or incomplete.")
    if stable is None:
        print("No version can be served.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _somebody() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no such user, as in many containers
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


if __name__ == "__main__":
    sys.exit(main())
