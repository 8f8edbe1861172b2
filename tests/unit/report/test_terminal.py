import io
import logging
import os
import pty
import re
import subprocess
import sys
import warnings

import pytest

from report import terminal as terminal_lib


class _Clock:
    """Stands in for the ``time`` module: it moves only when told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = _Clock()
    monkeypatch.setattr(terminal_lib, "time", clock)
    return clock


@pytest.fixture
def piped(clock):
    """A terminal whose output goes into a pipe, and a function that reads its lines."""
    stream = io.StringIO()
    return terminal_lib.Terminal(stream), lambda: stream.getvalue().splitlines()


def _run_step(terminal, clock, name, seconds):
    terminal.step_running(name)
    clock.now += seconds
    terminal.step_finished()


def test_a_pipe_gets_one_line_per_finished_step(piped, clock):
    terminal, lines = piped
    terminal.expect_steps(14)
    _run_step(terminal, clock, "example-gen", 4.25)
    terminal.step_running("transform")
    terminal.step_cached()
    terminal.step_finished()
    assert lines() == [
        "[ 1/14] example-gen          4.2 s",
        "[ 2/14] transform            cached",
    ]


def test_a_pipe_gets_progress_every_ten_seconds(piped, clock):
    terminal, lines = piped
    terminal.expect_steps(3)
    terminal.step_running("trainer")
    for second in range(1, 36):
        clock.now += 1.0
        terminal.progress(f"second {second}")
    assert [line.rsplit("  ")[-1].strip() for line in lines()] == [
        "second 10",
        "second 20",
        "second 30",
    ]


def test_nothing_is_cut_or_broken_in_a_pipe(piped):
    terminal, lines = piped
    path = "/very/long" * 40
    terminal.print(f"Report    {path} [1/2] :smile: [bold]x[/bold]")
    assert lines() == [f"Report    {path} [1/2] :smile: [bold]x[/bold]"]


def test_a_failure_names_the_step_the_root_cause_and_the_log(piped, clock, tmp_path):
    terminal, lines = piped
    terminal.expect_steps(14)
    terminal.step_running("example-gen")
    clock.now += 2.0
    error = RuntimeError("wrapped by Beam")
    error.__cause__ = ValueError("no column 'usr' [in my.csv]")
    terminal.failed(error, tmp_path / "run.log", output_dir=tmp_path, verbose=False)
    assert lines()[0] == "[ 1/14] example-gen          failed after 2.0 s"
    assert "Failed in step example-gen: ValueError: no column 'usr' [in my.csv]" in lines()
    assert f"Details: {tmp_path / 'run.log'}" in lines()
    assert not any("Traceback" in line for line in lines())


def test_an_interruption_is_one_line_that_names_the_step(piped, tmp_path):
    terminal, lines = piped
    terminal.step_running("trainer")
    terminal.interrupted(tmp_path / "run.log")
    [line] = lines()
    assert line.startswith("Interrupted in step trainer;")
    assert line.endswith(f"Details: {tmp_path / 'run.log'}")


def test_a_full_disk_under_the_log_does_not_hide_the_error_of_the_run(tmp_path):
    log = tmp_path / "run.log"
    log.symlink_to("/dev/full")

    def run():
        with terminal_lib.quiet_run(log):
            logging.getLogger("tfx").warning("for the log")
            raise KeyError

    with pytest.raises(KeyError):
        run()


def test_a_failure_between_steps_blames_none(piped, clock, tmp_path):
    terminal, lines = piped
    _run_step(terminal, clock, "pusher", 1.0)
    terminal.failed(KeyError("x"), tmp_path / "run.log", output_dir=tmp_path, verbose=True)
    assert "Failed: KeyError: 'x'" in lines()


@pytest.fixture
def quiet_output(tmp_path):
    """Runs a script under ``quiet_run`` in a process of its own: (terminal, log)."""

    def run(body, on_terminal=False, columns=80):
        log = tmp_path / "logs" / "run.log"
        script = (
            "import logging, os, subprocess, sys, time, warnings\n"
            "from pathlib import Path\n"
            "from report import terminal as terminal_lib\n"
            f"with terminal_lib.quiet_run(Path({str(log)!r})) as terminal:\n"
            "    tfx = logging.getLogger('tfx')\n"
            + "".join(f"    {line}\n" for line in body)
            + "print('after')\n"
        )
        command = [sys.executable, "-c", script]
        if on_terminal:
            output = _run_on_terminal(command, columns)
        else:
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return output, log.read_text(encoding="utf-8")

    return run


def _run_on_terminal(command, columns):
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(chunks).decode("utf-8")


_NOISE = [
    "print('from python')",
    "os.write(2, b'from c++\\n')",
    "subprocess.run(['echo', 'from a subprocess'])",
    "warnings.warn('a warning')",
    "tfx.info('a message')",
]


def test_all_noise_goes_to_the_log(quiet_output):
    shown, log = quiet_output([*_NOISE, "terminal.print('for the person')"])
    assert shown == "for the person\nafter\n"
    for text in ("from python", "from c++", "from a subprocess", "a warning", "a message"):
        assert text in log
    assert "for the person" not in log


def test_tfx_messages_become_step_lines(quiet_output):
    shown, log = quiet_output(
        [
            "terminal.expect_steps(2)",
            "tfx.info('Component %s is running.', 'schema')",
            "tfx.info('A cached execution %d is used.', 7)",
            "tfx.info('Component %s is finished.', 'schema')",
        ]
    )
    assert shown == "[ 1/2] schema               cached\nafter\n"
    assert "Component schema is finished." in log


def test_the_messages_are_those_of_the_installed_tfx():
    from pathlib import Path

    import tfx

    source = "".join(
        (Path(tfx.__file__).parent / "orchestration" / name).read_text()
        for name in ("local/local_dag_runner.py", "portable/launcher.py")
    )
    for message in (terminal_lib._RUNNING, terminal_lib._FINISHED, terminal_lib._CACHED):
        assert f"'{message}'" in source


@pytest.mark.parametrize("columns", [50, 120])
def test_a_terminal_shows_a_live_line_of_its_own_width(quiet_output, columns):
    shown, _ = quiet_output(
        [
            "terminal.expect_steps(2)",
            "tfx.info('Component %s is running.', 'trainer')",
            "logging.getLogger('mind.progress').info('step 1, ' + 'loss 4.2, ' * 30)",
            "time.sleep(0.5)",  # several refreshes
            *_NOISE,
            "tfx.info('Component %s is finished.', 'trainer')",
        ],
        on_terminal=True,
        columns=columns,
    )
    frames = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    live = [frame for frame in frames if "step 1, loss" in frame]
    assert live
    assert all(len(frame) <= columns for frame in live)
    assert all("trainer" in frame and "…" in frame for frame in live)
    assert re.search(r"\[ 1/2\] trainer +\d+\.\d s", shown)
    assert "from" not in shown


def test_everything_is_restored_afterwards(tmp_path):
    root = logging.getLogger()
    before = (root.handlers[:], root.level, warnings.showwarning, os.fstat(1), os.fstat(2))
    with pytest.raises(KeyError), terminal_lib.quiet_run(tmp_path / "run.log"):
        raise KeyError
    after = (root.handlers[:], root.level, warnings.showwarning, os.fstat(1), os.fstat(2))
    assert after[:3] == before[:3]
    assert [s.st_ino for s in after[3:]] == [s.st_ino for s in before[3:]]
