"""Calls in a process of their own: answers, errors, deaths."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.tune import isolated

_HERE = "tests.isolated_functions"


@pytest.fixture
def call(tmp_path):
    def run(name, on_message=None, **arguments):
        return isolated.call(f"{_HERE}.{name}", arguments, tmp_path / "log", on_message)

    return run


def test_messages_are_answered_and_the_result_comes_back(call, tmp_path):
    received = []

    def double(message):
        received.append(message)
        return 2 * message

    pid, total = call("add_answers", double, values=[1, 2, 3])
    assert (received, total) == ([1, 2, 3], 12)
    assert pid != os.getpid()
    # Of Python, and of what writes to the descriptor itself.
    log = (tmp_path / "log").read_text()
    assert "printed over there" in log
    assert "written to descriptor 2" in log


def test_our_own_message_comes_back_and_its_cause(call, tmp_path):
    with pytest.raises(isolated.IsolatedError) as error:
        call("refuse")
    assert str(error.value) == "The log is empty. Choose another\nCause: KeyError: 'rows'"
    assert "Traceback" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGKILL, "ended by SIGKILL. The system does this when memory runs out."),
        (signal.SIGSEGV, "ended by SIGSEGV."),
    ],
)
def test_a_process_that_dies_is_an_error(call, number, expected):
    with pytest.raises(isolated.IsolatedError) as error:
        call("die", number=int(number))
    assert str(error.value) == f"The process was {expected}"


def test_an_interruption_here_ends_the_process(call):
    seen = []

    def interrupted(pid):
        seen.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call("say_pid_and_wait", interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


def test_a_killed_caller_takes_the_process_with_it(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from pipeline.tune import isolated\n"
        f"isolated.call('{_HERE}.say_pid_and_hang', {{}}, Path('{tmp_path}/log'),\n"
        "              lambda pid: print(pid, flush=True))\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    hanging = int(caller.stdout.readline())
    caller.kill()
    caller.wait()
    caller.stdout.close()
    while _is_alive(hanging):  # nothing tells when a process that is not ours has ended
        os.sched_yield()


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
