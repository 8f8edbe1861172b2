"""Shared memory in which the processes of one server learn each other's state.

Each worker writes its own state, and the supervisor writes which workers exist. The values are
small enough to be written atomically, so no lock is needed.
"""

import dataclasses
import enum
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_FOLDER_PREFIX = "worker-"
# One worker's process id (0: none), number of restarts, and state.
_SEAT = struct.Struct("=IIi")
_PID, _RESTARTS, _STATE = (slice(0, 4), slice(4, 8), slice(8, 12))
_NUMBER = struct.Struct("=I")


def worker_folder(directory: Path, number: int) -> Path:
    """Returns the folder in ``directory`` for a worker's own files."""
    return directory / f"{_FOLDER_PREFIX}{number}"


def worker_folders(directory: Path) -> list[Path]:
    """Returns the existing worker folders in ``directory``."""
    return sorted(directory.glob(f"{_FOLDER_PREFIX}*"))


class State(enum.IntEnum):
    """State of a worker.

    Attributes:
      STARTING: The worker is starting, or listens without a version of each model. The server as a
        whole is not ready.
      READY: The worker listens and serves every model.
      ABSENT: The worker does not listen, because it ended or is being restarted. Others serve.
    """

    STARTING = 0
    READY = 1
    ABSENT = 2


@dataclasses.dataclass(frozen=True)
class Seat:
    """The board's entry for one worker.

    Attributes:
      pid: Its process id; 0 if there is no process.
      restarts: Number of restarts.
      state: Its state.
    """

    pid: int
    restarts: int
    state: State


class Board:
    """The board, in a file that every process maps into its memory.

    Args:
      path: The file.
      workers: Number of workers.
    """

    def __init__(self, path: Path, workers: int):
        with path.open("a+b") as file:
            file.truncate(workers * _SEAT.size)
            self._memory = mmap.mmap(file.fileno(), workers * _SEAT.size)
        self._workers = workers

    def seats(self) -> list[Seat]:
        """Returns the entries of all workers, in order."""
        return [
            Seat(pid, restarts, State(state))
            for pid, restarts, state in _SEAT.iter_unpack(bytes(self._memory))
        ]

    def set_state(self, worker: int, state: State) -> None:
        """Records the state of a worker."""
        self._write(worker, _STATE, state)

    def set_pid(self, worker: int, pid: int) -> None:
        """Records the process id of a worker; 0 if there is no process."""
        self._write(worker, _PID, pid)

    def count_restart(self, worker: int) -> None:
        """Records that a worker is being restarted."""
        self._write(worker, _RESTARTS, self.seats()[worker].restarts + 1)

    def others(self, worker: int) -> Iterator[Seat]:
        """Yields the entries of all workers but one."""
        return (seat for number, seat in enumerate(self.seats()) if number != worker)

    def _write(self, worker: int, field: slice, value: int) -> None:
        start = worker * _SEAT.size
        self._memory[start + field.start : start + field.stop] = _NUMBER.pack(value)


@dataclasses.dataclass(frozen=True)
class Worker:
    """A worker's view of the board and of its place on it.

    Attributes:
      number: Number of the worker, from 0.
      board: The board that all workers share.
      folder: Folder that all workers share, with the files of their metrics.
      lifeline: File descriptor that becomes readable when the supervisor is gone.
      listens_first: Whether the worker listens before it has loaded its models, as all workers do
        when the server starts: clients are then told that it is not ready. A worker that is
        restarted later must not take connections from the others before it can serve them.
    """

    number: int
    board: Board
    folder: Path
    lifeline: int
    listens_first: bool

    def report(self, state: State) -> None:
        """Tells the others the state of this worker."""
        self.board.set_state(self.number, state)

    def others_are_ready(self) -> bool:
        """Whether every other worker that should be listening serves its models."""
        return all(seat.state != State.STARTING for seat in self.board.others(self.number))
