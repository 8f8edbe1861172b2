"""Searches for a recipe better than the configuration's, and evaluates it once on test people.

python -m pipeline.tune --config shop.yaml --trials 20
python -m pipeline.tune --config shop.yaml --trials 40        twenty more
python -m pipeline.tune --config shop.yaml --space my.yaml    another search space

Repeating the same command resumes an interrupted search.
"""

import argparse
import datetime
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.errors import explain
from pipeline.flags import DEFAULT_CONFIG, add_config_flags
from pipeline.quiet_imports import quiet_imports

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # the shell's convention for Ctrl-C

DEFAULT_SPACE = DEFAULT_CONFIG.parent / "tuning" / "default.yaml"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(parser)
    parser.add_argument("--output_dir", help="root directory of all outputs")
    parser.add_argument("--span", default="", help="as for local_runner.py")
    parser.add_argument(
        "--space",
        default=os.path.relpath(DEFAULT_SPACE),
        metavar="FILE",
        help="search space (default: %(default)s)",
    )
    parser.add_argument(
        "--trials",
        type=_at_least_one,
        default=20,
        help="total number of finished trials, including earlier calls (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="start no further trial after this time, and evaluate the best one so far",
    )
    return parser


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more, received {text}")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the search.

    Returns:
      0 if the search ended, 1 if it failed, 2 on wrong usage, 130 on Ctrl-C.
    """
    flags = _parser().parse_args(argv)
    try:
        return _main(flags)
    except KeyboardInterrupt:
        print(
            "Interrupted. Repeat the command to resume the trial that was running.",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED


def _main(flags: argparse.Namespace) -> int:
    if importlib.util.find_spec("optuna") is None:
        print(
            "python -m pipeline.tune needs Optuna, which is not installed: install the extra "
            "'tune', as `make env` does.",
            file=sys.stderr,
        )
        return EXIT_FAILED
    with quiet_imports():
        from pipeline import config as config_lib
        from pipeline import run_lock
        from pipeline.output_layout import TIME_FORMAT, OutputLayout
        from pipeline.tune import space as space_lib
        from pipeline.tune.tuner import Tuning

    try:
        config = config_lib.load(
            flags.config or DEFAULT_CONFIG, flags.overrides, {"output_dir": flags.output_dir}
        )
        space = space_lib.load_space(flags.space)
        dimensions = space_lib.dimensions(space, config, flags.space)
    except config_lib.ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    output = Path(config.output_dir).resolve()
    layout = OutputLayout(output, config.name)
    log_file = layout.log_file(f"{datetime.datetime.now():{TIME_FORMAT}}")

    def say(line: str) -> None:
        print(line, flush=True)

    say(f"Tuning {config.name!r} with {flags.space}; details in {log_file}")
    for dimension in dimensions:
        if dimension.widened:
            say(f"  {dimension.key}: widened to include the configuration's own {dimension.own}")
    try:
        layout.logs.mkdir(parents=True, exist_ok=True)
        with run_lock.exclusive(output):
            Tuning(config, space, dimensions, flags.span, log_file, say).run(
                flags.trials, flags.timeout
            )
    except Exception as error:
        print(f"\nFailed: {explain(error)}\n\nDetails: {log_file}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
