import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run_lock import OutputInUseError, exclusive

_ROOT = Path(__file__).resolve().parents[3]
_HOLD = """
import sys
from pathlib import Path
from pipeline.run_lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path, holder):
    with (
        pytest.raises(OutputInUseError, match=rf"{tmp_path} is in use by process {holder.pid} on "),
        exclusive(tmp_path),
    ):
        pass


def test_a_killed_run_leaves_no_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with exclusive(tmp_path):
        words = (tmp_path / "run.lock").read_text()
    assert words.startswith(f"process {os.getpid()} on ")


def test_a_finished_run_leaves_no_lock(tmp_path):
    with exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
    assert (tmp_path / "run.lock").read_text() == ""
