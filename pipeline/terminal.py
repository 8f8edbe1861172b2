"""What a person at the terminal sees; everything else goes into a log file."""

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

# TFX's runner announces steps with these messages.
_RUNNING = "Component %s is running."
_FINISHED = "Component %s is finished."


class Terminal:
    """The person's own view: step lines and progress.

    Attributes:
      stream: Where it writes; stays the terminal while the process's standard
        streams go to the log.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream
        self._live = stream.isatty()
        self._steps = 0
        self._step = 0
        self._name = ""
        self._started = 0.0
        self._line_open = False

    def print(self, text: str = "") -> None:
        """Prints a line of its own."""
        self._end_line()
        print(text, file=self.stream, flush=True)

    def expect_steps(self, count: int) -> None:
        """Sets the number of steps, for the counter."""
        self._steps = count

    def failed(self, error: Exception, log_file: Path, *, verbose: bool) -> None:
        """Reports an error: its message, and where the details are."""
        logging.getLogger(__name__).error("The run failed.", exc_info=error)
        step = f" in step {self._name}" if self._name else ""
        self.print(f"\nFailed{step}: {_root_cause(error)}")
        if verbose:
            self.print("".join(traceback.format_exception(error)))
        self.print(
            f"Details: {log_file}\n"
            "What was served before is untouched; the next run continues from the steps that "
            "are complete."
        )

    def step_running(self, name: str) -> None:
        """Announces a step."""
        self._step += 1
        self._name, self._started = name, time.monotonic()
        if self._live:
            self._overwrite(f"[{self._step:2d}/{self._steps}] {name} …")

    def step_finished(self, name: str) -> None:
        """Ends a step's line with its duration."""
        seconds = time.monotonic() - self._started
        line = f"[{self._step:2d}/{self._steps}] {name:<20} {seconds:6.1f} s"
        if self._live:
            self._overwrite(line)
            self._end_line()
        else:
            self.print(line)

    def progress(self, text: str) -> None:
        """Shows progress inside a step; overwrites itself on a real terminal."""
        line = f"[{self._step:2d}/{self._steps}] {self._name}: {text}"
        if self._live:
            self._overwrite(line)
        else:
            self.print(line)

    def close(self) -> None:
        """Ends an open line."""
        self._end_line()
        self.stream.close()

    def _overwrite(self, line: str) -> None:
        self.stream.write("\r\x1b[2K" + line)
        self.stream.flush()
        self._line_open = True

    def _end_line(self) -> None:
        if self._line_open:
            self.stream.write("\n")
            self._line_open = False


class _StepHandler(logging.Handler):
    """Turns TFX's step messages and our progress records into terminal lines."""

    def __init__(self, terminal: Terminal):
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "mind.progress":
            self._terminal.progress(record.getMessage())
        elif record.msg == _RUNNING and record.args:
            self._terminal.step_running(str(record.args[0]))
        elif record.msg == _FINISHED and record.args:
            self._terminal.step_finished(str(record.args[0]))


def _root_cause(error: BaseException) -> str:
    """The message a person can act on, without the wrapping of Beam and TFX."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@contextlib.contextmanager
def quiet_run(log_file: Path) -> Iterator[Terminal]:
    """Sends both standard streams and all logging to ``log_file``.

    C++ libraries and subprocesses write to the descriptors directly, so those
    are redirected, not only Python's streams.

    Args:
      log_file: Created with its parents.

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
    file_handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root.handlers = [file_handler, _StepHandler(terminal)]
    absl_logging.set_verbosity(absl_logging.INFO)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        logging.captureWarnings(False)
        root.handlers, root.level = old_handlers, old_level
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in saved:
            os.close(descriptor)
        terminal.close()
        log.close()
