"""Puts new items into service without training.

python -m item_refresh --model_base_path output/serving_models/mind \
      --items new_items.csv
python -m item_refresh --model_base_path output/serving_models/mind \
      --changes output/changes

Takes the newest pushed version, embeds new items from their side features, rebuilds and validates
the index, and pushes a new version. Items come from a file, from the change log that servers
with a live catalogue write, or from both.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_NOT_PUSHED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the refresh and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m item_refresh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model_base_path", required=True, help="where versions are pushed")
    parser.add_argument(
        "--items",
        nargs="+",
        default=[],
        metavar="FILE",
        help="items, in the format and with the columns of data.items",
    )
    parser.add_argument(
        "--changes",
        default="",
        metavar="DIR|URL",
        help="where the change logs are; the same value as the server's --live_catalogue",
    )
    parser.add_argument(
        "--model_name",
        default="",
        help="name under which the model is served, which identifies its change log; by default"
        " the last part of --model_base_path",
    )
    parser.add_argument("--version", default="", help="version to refresh; the newest by default")
    parser.add_argument(
        "--remove_absent",
        action="store_true",
        help="treat the files as the whole catalogue: items that they lack are no longer"
        " recommended",
    )
    parser.add_argument(
        "--examples",
        default="",
        help="Split-eval directory of an example-gen output; by default the one recorded in the"
        " version",
    )
    flags = parser.parse_args(argv)
    if not flags.items and not flags.changes:
        parser.error("give --items, --changes or both")
    if flags.remove_absent and not flags.items:
        parser.error("--remove_absent needs --items")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from components.example_gen.errors import DataError
    from contract.change_log import find_log
    from item_refresh.refresh import refresh

    name = flags.model_name or os.path.basename(os.path.normpath(flags.model_base_path))
    try:
        done = refresh(
            flags.model_base_path,
            flags.items,
            version=flags.version,
            examples=flags.examples,
            remove_absent=flags.remove_absent,
            log=find_log(flags.changes, name) if flags.changes else None,
        )
    except (DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    changes = done.changes
    print(
        f"Version {done.base_version} refreshed: {changes.added} items added, "
        f"{changes.changed} changed, {changes.removed} removed, {changes.unchanged} as before."
    )
    if changes.added_without_vector:
        print(
            f"{changes.added_without_vector} more new items have no side feature that the training "
            "has seen; they cannot be found until the next one."
        )
    validation = done.validation
    print(
        f"Index: recall@{validation.recall_k} {validation.recall}, latency "
        f"{json.dumps(validation.latency_ms)} ms."
    )
    if not done.version:
        print(f"Not pushed: {'; '.join(validation.reasons)}", file=sys.stderr)
        return EXIT_NOT_PUSHED
    print(f"Pushed version {done.version}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
