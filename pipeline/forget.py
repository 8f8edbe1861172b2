"""Erases people and items from an output directory, and keeps them from being read again.

python -m pipeline.forget --config shop.yaml --user 4711            erase and keep out
python -m pipeline.forget --config shop.yaml --user 4711 --check    only look for the id
python -m pipeline.forget --config shop.yaml --list                 what is on the list

The list holds keyed hashes instead of ids. From then on, ExampleGen leaves out everything on it,
whatever files it reads. The outputs that earlier runs derived from the data are deleted, because
nearly all of them contain the person or item in some form; the next run creates them anew. A pushed
version that is in use cannot be changed: the command names it, and the next run pushes a version
without the ids. If the server keeps histories (--history_store), people are erased there as well.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import UserError
from contract.histories import Retention
from contract.history_store import HistoryStore, open_store
from pipeline.flags import DEFAULT_CONFIG, add_config_flags, add_store_flags
from pipeline.quiet_imports import quiet_imports

if TYPE_CHECKING:
    from components.example_gen.forgotten import Kind
    from pipeline.erasure import Erasure, Finding

EXIT_FOUND = 1
EXIT_USAGE = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.forget",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(parser)
    parser.add_argument("--output_dir", help="root directory of all outputs of local runs")
    add_store_flags(parser)
    for kind in ("user", "item"):
        parser.add_argument(
            f"--{kind}", action="append", default=[], metavar="ID", help="may be repeated"
        )
        parser.add_argument(
            f"--{kind}_file",
            action="append",
            default=[],
            metavar="FILE",
            help="ids, one per line; other users cannot see them, unlike the command line",
        )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing, only look for the ids")
    what.add_argument("--list", action="store_true", help="show what is on the list and exit")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Erases ids, checks for them, or shows the list.

    Returns:
      0 if no id can be found any more, 1 if a file still contains one or the erasure failed, 2 on
      wrong usage.
    """
    flags = _parser().parse_args(argv)
    with quiet_imports():
        from pipeline import config as config_lib
        from pipeline import run_lock
        from pipeline.erasure import Erasure

    try:
        config = config_lib.load(
            flags.config or DEFAULT_CONFIG, flags.overrides, {"output_dir": flags.output_dir}
        )
        ids: dict[Kind, list[str]] = {
            "users": _given(flags.user, flags.user_file),
            "items": _given(flags.item, flags.item_file),
        }
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if not any(ids.values()) and not flags.list:
        print("No id was given: expected --user, --item or a file of ids", file=sys.stderr)
        return EXIT_USAGE
    try:
        erasure = Erasure(config)
        if flags.list:
            _show_list(erasure, ids)
            return 0
        with run_lock.exclusive(erasure.layout.output):
            store = _store(flags, config.name)
            if flags.check:
                code = _report(erasure.check(ids), erasure.searches_versions)
                return max(code, _report_kept(store, ids))
            erased = erasure.erase(ids)
            # Done last: a fill that began earlier would restore people who were not on the list
            # yet.
            people = store.erase(ids["users"]) if store else 0
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_FOUND
    removed = erased.removed
    number = sum(map(len, ids.values()))
    print(f"On the list   {number:,} ids, {erased.num_new:,} of them new: {erasure.list}")
    print(
        f"Removed       {removed.bytes:,} bytes, {removed.versions} versions; sample people and "
        f"report of {erased.num_runs} runs"
    )
    if store:
        print(f"Histories     of {people:,} people are erased in the server's store")
    for failure in removed.failed:
        print(f"Not removed   {failure}")
    code = _report(erased.left, erasure.searches_versions)
    return EXIT_FOUND if removed.failed else code


def _store(flags: argparse.Namespace, name: str) -> HistoryStore | None:
    if not flags.history_store:
        return None
    model = flags.model_name or name
    return open_store(flags.history_store, model, Retention(days=0), is_new=False)


def _report_kept(store: HistoryStore | None, ids: "Mapping[Kind, list[str]]") -> int:
    kept = sum(map(bool, store.read(ids["users"]))) if store else 0
    if kept:
        print(f"Found in the histories of the server: {kept:,} people")
    return EXIT_FOUND if kept else 0


def _given(ids: Sequence[str], files: Sequence[str]) -> list[str]:
    found = list(ids)
    for file in files:
        try:
            lines = Path(file).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{file}: expected ids, one per line; cannot be read: {error}"
            ) from None
        found += [line.removesuffix("\r") for line in lines]
    return list(dict.fromkeys(text for text in found if text.strip()))


def _show_list(erasure: "Erasure", ids: "Mapping[Kind, Sequence[str]]") -> None:
    print(erasure.describe_list())
    for kind, texts in ids.items():
        for text in texts:
            day = erasure.added_on(kind, text)
            print(
                f"  {text}: " + (f"on the list of {kind} since {day}" if day else "not on the list")
            )


def _report(left: "Sequence[Finding]", searched_versions: bool) -> int:
    if not searched_versions:
        print("Not searched  the push destination, which is in an object store")
    by_advice = sorted(left, key=lambda finding: (finding.advice, finding.path))
    for advice, findings in itertools.groupby(by_advice, key=lambda finding: finding.advice):
        print(f"Found in {advice}:")
        for finding in findings:
            print(f"  {finding.path}")
    if not left:
        print("Searched      every file; none of the ids was found")
    return EXIT_FOUND if left else 0


if __name__ == "__main__":
    sys.exit(main())
