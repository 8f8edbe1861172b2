"""Fills the server's history store with the events that a run has read.

python -m pipeline.fill_histories --config shop.yaml --history_store output/histories

The command takes all events of the run that pushed the version in service, both for training and
held out. Events that the server has received since then are kept, and no event is duplicated, so it
can be run after every push. Erased people (pipeline.forget, or the server's users:erase) stay
erased.
"""

import argparse
import sys
from collections.abc import Sequence

from contract.errors import UserError
from contract.histories import DEFAULT_DAYS, DEFAULT_MAX_EVENTS, Retention
from contract.history_store import open_store
from pipeline.flags import DEFAULT_CONFIG, add_config_flags, add_store_flags
from pipeline.quiet_imports import quiet_imports

EXIT_FAILED = 1
EXIT_USAGE = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.fill_histories",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(parser)
    parser.add_argument("--output_dir", help="root directory of all outputs of local runs")
    add_store_flags(parser, is_required=True)
    parser.add_argument(
        "--history_days",
        type=float,
        default=DEFAULT_DAYS,
        help="same as the server's: older events are left out; 0: no limit (default: %(default)s)",
    )
    parser.add_argument(
        "--history_max_events",
        type=int,
        default=DEFAULT_MAX_EVENTS,
        help="same as the server's: most events per person (default: %(default)s)",
    )
    parser.add_argument(
        "--examples",
        default="",
        help="directory of an example-gen output; default: that of the version in service",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fills the store.

    Returns:
      0 if the store was filled, 1 if that failed, 2 on wrong usage.
    """
    flags = _parser().parse_args(argv)
    with quiet_imports():
        from pipeline import config as config_lib
        from pipeline.history_fill import examples_of_pushed, fill, who_is_left_out

    try:
        config = config_lib.load(
            flags.config or DEFAULT_CONFIG, flags.overrides, {"output_dir": flags.output_dir}
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    retention = Retention(flags.history_max_events, flags.history_days)
    try:
        left_out = who_is_left_out(config)
        examples = flags.examples.rstrip("/") or examples_of_pushed(config)
        store = open_store(flags.history_store, flags.model_name or config.name, retention)
        filled = fill(store, examples, left_out)
        people = store.count()
        store.close()
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    print(f"Read      {filled.sequences:,} sequences of {filled.examples}")
    if filled.left_out:
        print(f"Left out  {filled.left_out:,} sequences of people on the list of forgotten people")
    print(f"Written   {filled.new_events:,} events that were new to the store")
    print(f"Kept      {people:,} people")
    if retention.days and not people:
        print(
            f"All events are older than {retention.days:g} days. Raise --history_days to keep"
            " them, both here and at the server"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
