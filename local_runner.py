"""Runs the whole pipeline on this machine, from raw logs to a pushed model.

python local_runner.py                                  MovieLens 100K
python local_runner.py --config configs/completejourney.yaml
python local_runner.py --interactions my.csv --user_column u \
      --item_column i --timestamp_column t                your own log
"""

import argparse
import dataclasses
import datetime
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.flags import DEFAULT_CONFIG, add_config_flags
from pipeline.quiet_imports import quiet_imports

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_PUSHED = 3
EXIT_INTERRUPTED = 130  # the shell's convention for Ctrl-C

# A run writes far more than this; a disk without this much space is full before the run starts.
_PROBE_BYTES = 1 << 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Words after `--` are options for Apache Beam.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(parser)
    parser.add_argument("--output_dir", help="root directory of all outputs")
    spans = parser.add_mutually_exclusive_group()
    spans.add_argument(
        "--span",
        default="",
        help="replaces {SPAN} in the configured files; in a window, it is the newest span; "
        "'latest' is the newest span that has a file",
    )
    spans.add_argument(
        "--backfill",
        default="",
        metavar="FIRST..LAST",
        help="run the pipeline for each of these spans newer than the last one run, in order",
    )
    parser.add_argument(
        "--interactions",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="interaction log: CSV, Parquet or JSON lines; several files are read in this order",
    )
    parser.add_argument("--user_column")
    parser.add_argument("--item_column")
    parser.add_argument("--timestamp_column")
    parser.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="reuse the steps whose inputs, parameters and code are unchanged",
    )
    parser.add_argument(
        "--require_push",
        action="store_true",
        help=f"exit with {EXIT_NOT_PUSHED} if nothing was pushed",
    )
    parser.add_argument(
        "--print_config", action="store_true", help="print the effective configuration and exit"
    )
    parser.add_argument(
        "--bootstrap_schema",
        metavar="FILE",
        help="infer a schema from the data, write it to FILE for curation, and exit",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show tracebacks of expected errors as well"
    )
    return parser


def _load_config(flags: argparse.Namespace) -> Any:
    from pipeline import config as config_lib

    path = flags.config
    if path is None and not flags.interactions:
        path = os.path.relpath(DEFAULT_CONFIG)
    return config_lib.load(
        path,
        flags.overrides,
        {
            "output_dir": flags.output_dir,
            "data.interactions.files": flags.interactions,
            "data.interactions.user_column": flags.user_column,
            "data.interactions.item_column": flags.item_column,
            "data.interactions.timestamp_column": flags.timestamp_column,
        },
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline; returns the exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Split here and not by argparse, which would pass stray words to Beam as well.
    own = list(itertools.takewhile(lambda word: word != "--", arguments))
    flags = _parser().parse_args(own)
    flags.beam_args = arguments[len(own) + 1 :]
    # Set before the first TensorFlow import; the log file does not need TensorFlow's banner.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from pipeline import beam_options
    from pipeline.config import ConfigError

    try:
        config = _load_config(flags)
        beam_options.check(flags.beam_args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if flags.print_config:
        from pipeline.config import to_yaml

        print(to_yaml(config), end="")
        return 0

    output = Path(config.output_dir).resolve()
    if flags.backfill:
        return _backfill(flags, config, output, arguments)
    from pipeline import run_lock
    from pipeline.output_layout import TIME_FORMAT, OutputLayout
    from report import failure
    from report import terminal as terminal_lib

    layout = OutputLayout(output, config.name)
    log_file = layout.log_file(f"{datetime.datetime.now():{TIME_FORMAT}}")
    try:
        _try_to_write(layout.logs)
    except OSError as error:
        print(f"output_dir: {failure.explain(error, output)}", file=sys.stderr)
        return EXIT_FAILED
    print(f"Running {config.name!r}; details in {log_file}", flush=True)
    with terminal_lib.quiet_run(log_file) as terminal:
        try:
            with run_lock.exclusive(output):
                return _recorded_run(flags, config, layout, terminal)
        except KeyboardInterrupt:
            terminal.interrupted(log_file)
            return EXIT_INTERRUPTED
        except Exception as error:
            terminal.failed(error, log_file, output_dir=output, verbose=flags.verbose)
            return EXIT_FAILED


def _try_to_write(directory: Path) -> None:
    """Creates the directory and writes into it; an OSError says why that is impossible."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(_PROBE_BYTES))


def _backfill(
    flags: argparse.Namespace, config: Any, output: Path, arguments: Sequence[str]
) -> int:
    """Runs the missing spans, each in a process of its own."""
    with quiet_imports():
        from components.example_gen.errors import DataError
        from components.example_gen.spans import between, newer_than
        from pipeline.output_layout import OutputLayout
        from report.run_history import spans

    first, _, last = flags.backfill.partition("..")
    try:
        names = between(config.data.interactions, first, last)
    except DataError as error:
        print(f"--backfill: {error}", file=sys.stderr)
        return EXIT_USAGE
    # The model of an older span would replace that of a newer one.
    waiting = newer_than(names, spans(OutputLayout(output, config.name).runs))
    print(
        f"{len(waiting)} of {len(names)} spans are to be run; the others are not newer than one "
        "that was run.",
        flush=True,
    )
    only_backfill = argparse.ArgumentParser(add_help=False)
    only_backfill.add_argument("--backfill")
    _, own = only_backfill.parse_known_args(
        list(itertools.takewhile(lambda word: word != "--", arguments))
    )
    for number, name in enumerate(waiting, start=1):
        print(f"\nSpan {name} ({number} of {len(waiting)})", flush=True)
        command = [sys.executable, __file__, f"--span={name}", *own, "--", *flags.beam_args]
        code = subprocess.run(command).returncode
        if code not in (0, EXIT_NOT_PUSHED):
            print(f"Span {name} failed; the later spans were not run.", file=sys.stderr)
            return code
    return 0


def _recorded_run(flags: argparse.Namespace, config: Any, layout: Any, terminal: Any) -> int:
    """Runs the pipeline, and also records failed runs in the history."""
    started = time.monotonic()
    try:
        return _run(flags, config, layout, terminal)
    except Exception as error:
        from report import failure, run_history

        why = failure.explain(error, layout.output)
        run_history.remember(
            layout.history,
            run_history.of_failure(flags.span, why, time.monotonic() - started),
        )
        raise


def _run(flags: argparse.Namespace, config: Any, layout: Any, terminal: Any) -> int:
    started = time.monotonic()
    terminal.print("Loading TensorFlow and TFX …")
    from pipeline import retention
    from pipeline.create_pipeline import create_pipeline, create_schema_pipeline
    from pipeline.local_dag_runner import LocalDagRunner
    from pipeline.output_layout import TIME_FORMAT
    from pipeline.target import local_target
    from report import html_report as run_report
    from report import run_artifacts, run_history, run_summary, terminal_summary

    target = local_target(
        config, span=flags.span, enable_cache=flags.cache, beam_args=flags.beam_args
    )
    if flags.bootstrap_schema:
        pipeline = create_schema_pipeline(config, target)
    else:
        pipeline = create_pipeline(config, target)
    terminal.expect_steps(len(pipeline.components))
    LocalDagRunner().run(pipeline)
    steps = run_artifacts.latest_run(target, config.name)
    if flags.bootstrap_schema:
        schema = Path(steps["schema"].outputs["schema"].uri) / "schema.pbtxt"
        Path(flags.bootstrap_schema).write_text(schema.read_text())
        terminal.print(
            f"Schema written to {flags.bootstrap_schema}: check it, then set `schema:` in "
            "the configuration."
        )
        return 0
    summary = run_summary.summarise(config, target, steps, time.monotonic() - started)
    run_dir = layout.runs / f"{datetime.datetime.now():{TIME_FORMAT}}"
    run_dir.mkdir(parents=True)
    # Written first, so that the clean-up counts this run as complete and removes only older ones.
    run_summary.write(summary, run_dir)
    summary["removed"] = dataclasses.asdict(retention.clean_up(config, target, layout))
    summary_path = run_summary.write(summary, run_dir)
    report_path = run_report.write(summary, run_dir)
    terminal.print()
    terminal.print(
        terminal_summary.render(
            summary, config.evaluation.cutoffs, config.evaluation.exclude_history
        )
    )
    terminal.print(f"Report    {report_path}\nSummary   {summary_path}")
    run_history.remember(layout.history, run_history.of_summary(summary))
    if flags.require_push and not summary["push"]["pushed"]:
        return EXIT_NOT_PUSHED
    return 0


if __name__ == "__main__":
    sys.exit(main())
