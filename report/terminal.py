"""What the user sees at the terminal; all other output goes to a log file."""

import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from absl import logging as absl_logging
from rich.console import Console, ConsoleDimensions, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from report.failure import explain
from report.summary_view import duration

PROGRESS_LOG = "mind.progress"  # logger whose records are shown to the user

# Messages with which TFX's runner and launcher announce steps.
_RUNNING = "Component %s is running."
_FINISHED = "Component %s is finished."
_CACHED = "A cached execution %d is used."

_NAME_WIDTH = 20
_WIDTH_ELSEWHERE = 100  # width for a file or a pipe, which has none of its own
_SECONDS_BETWEEN_LINES = 10.0  # between progress lines, where none can be overwritten


class Terminal:
    """The user's view: step lines, progress and the summary.

    On a terminal, the running step is a live line at the bottom. Elsewhere (a pipe, a CI log), only
    finished lines and an occasional progress line are written.
    """

    def __init__(self, stream: TextIO):
        """Writes to ``stream``, the terminal, while the process's own streams go to the log."""
        self._stream = stream
        self._console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._spinner = Spinner("dots")
        self._steps = 0
        self._step = 0
        self._name = ""  # name of the running step; empty between steps
        self._cached = False
        self._started = 0.0
        self._progress = ""
        self._last_line = 0.0
        self._live = Live(
            console=self._console,
            get_renderable=self._running_step,
            transient=True,
            refresh_per_second=8,
            # The process's own streams go to the log and must stay there.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def print(self, content: RenderableType = "") -> None:
        """Prints text, or anything that rich can render, above the live line.

        Plain text is never wrapped or cut, so that paths and commands can be copied.
        """
        self._console.print(content, soft_wrap=isinstance(content, str), crop=False)

    def expect_steps(self, count: int) -> None:
        """Sets the total number of steps, for the counter."""
        self._steps = count

    def failed(
        self, error: BaseException, log_file: Path, *, output_dir: Path, verbose: bool
    ) -> None:
        """Reports an error: its message, and where to find the details.

        Args:
          error: What stopped the run.
          log_file: File that gets the traceback.
          output_dir: Where the run writes; named if the disk is full or read-only.
          verbose: Whether to show the traceback at the terminal too.
        """
        logging.getLogger(__name__).error("The run failed.", exc_info=error)
        where = f" in step {self._name}" if self._name else ""
        if self._name:
            self._end_step("failed after " + duration(time.monotonic() - self._started), "red")
        self.print(f"\nFailed{where}: {explain(error, output_dir)}")
        if verbose:
            self.print("".join(traceback.format_exception(error)))
        self.print(
            f"\nDetails: {log_file}\n"
            "The model in service is unchanged; the next run continues after the completed steps."
        )

    def interrupted(self, log_file: Path) -> None:
        """Reports in one line that the user stopped the run."""
        where = f" in step {self._name}" if self._name else ""
        self._live.stop()
        self.print(
            f"Interrupted{where}; the next run continues after the completed steps. "
            f"Details: {log_file}"
        )

    def step_running(self, name: str) -> None:
        """Announces a step."""
        self._step += 1
        self._name, self._cached, self._progress = name, False, ""
        self._started = self._last_line = time.monotonic()
        if self._is_live:
            self._live.start()

    def step_cached(self) -> None:
        """Records that the running step is served from the cache."""
        self._cached = True

    def step_finished(self) -> None:
        """Ends the running step's line with its duration."""
        if self._cached:
            self._end_step("cached", "dim")
        else:
            self._end_step(duration(time.monotonic() - self._started), "")

    def progress(self, text: str) -> None:
        """Shows the progress of the running step."""
        self._progress = text
        now = time.monotonic()
        if not self._is_live and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.print(self._prefix() + text)

    def close(self) -> None:
        """Ends the live line and closes the stream."""
        self._live.stop()
        self._stream.close()

    def _prefix(self) -> str:
        return f"[{self._step:2d}/{self._steps}] {self._name:<{_NAME_WIDTH}} "

    def _end_step(self, outcome: str, style: str) -> None:
        self._live.stop()
        self._console.print(self._prefix() + outcome, style=style, soft_wrap=True)
        self._name = ""

    def _running_step(self) -> RenderableType:
        """Renders the live line, which is always a single line."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        grid.add_column()  # the column that shrinks
        elapsed = duration(int(time.monotonic() - self._started))
        progress = Text(self._progress, no_wrap=True, overflow="ellipsis")
        grid.add_row(self._prefix().rstrip(), self._spinner, elapsed, progress)
        return grid


class _Console(Console):
    """A console with the width of its own terminal, not that of the process's streams."""

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        if not self.is_terminal:
            given = os.environ.get("COLUMNS", "")
            return ConsoleDimensions(int(given) if given.isdigit() else _WIDTH_ELSEWHERE, 25)
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return super().size
        return ConsoleDimensions(columns or 80, lines or 25)


class _StepHandler(logging.Handler):
    """Converts TFX's step messages and progress records into terminal lines."""

    def __init__(self, terminal: Terminal):
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == PROGRESS_LOG:
            self._terminal.progress(record.getMessage())
        elif record.msg == _RUNNING and isinstance(record.args, tuple):
            self._terminal.step_running(str(record.args[0]))
        elif record.msg == _CACHED:
            self._terminal.step_cached()
        elif record.msg == _FINISHED:
            self._terminal.step_finished()


@contextlib.contextmanager
def quiet_run(log_file: Path) -> Iterator[Terminal]:
    """Redirects both standard streams and all logging to ``log_file``.

    C++ libraries and subprocesses write to the file descriptors directly, so those are redirected
    as well as Python's streams.

    Args:
      log_file: Created together with its parent directories.

    Yields:
      The terminal to print to.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    terminal = Terminal(os.fdopen(os.dup(saved[0]), "w", encoding="utf-8"))
    log = log_file.open("a", encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    root = logging.getLogger()
    old_handlers, old_level = root.handlers[:], root.level
    file_handler = logging.StreamHandler(log)
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers = [file_handler, _StepHandler(terminal)]
    absl_logging.set_verbosity(absl_logging.INFO)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield terminal
    finally:
        for output in (sys.stdout, sys.stderr):
            _flush(output)
        logging.captureWarnings(False)
        root.handlers, root.level = old_handlers, old_level
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)
        terminal.close()
        _flush(log)
        with contextlib.suppress(OSError):
            log.close()


def _flush(stream: TextIO) -> None:
    """Flushes; on a full disk the output is lost, so that the run's own error is shown."""
    with contextlib.suppress(OSError):
        stream.flush()
