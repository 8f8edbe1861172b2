"""What the processes of one server know of each other: a few bytes of shared memory.

Each worker writes its own state, and the supervisor writes who is there. Values are so small
that they are written at once, and no lock is needed.
"""

import dataclasses
import enum
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_FOLDER_PREFIX = "worker-"
# Of one worker: process id (0: none), how often it was started again, state.
_SEAT = struct.Struct("=IIi")
_PID, _RESTARTS, _STATE = (slice(0, 4), slice(4, 8), slice(8, 12))
_NUMBER = struct.Struct("=I")


def worker_folder(directory: Path, number: int) -> Path:
    """Returns where in ``directory`` a worker has files of its own."""
    return directory / f"{_FOLDER_PREFIX}{number}"


def worker_folders(directory: Path) -> list[Path]:
    """Returns the folders of workers that there are in ``directory``."""
    return sorted(directory.glob(f"{_FOLDER_PREFIX}*"))


class State(enum.IntEnum):
    """What a worker can do.

    Attributes:
      STARTING: It is on its way, or listens without a version of each model. The server as a
        whole is not ready.
      READY: It listens and serves every model.
      ABSENT: It does not listen, because it ended or is started again. Others serve.
    """

    STARTING = 0
    READY = 1
    ABSENT = 2


@dataclasses.dataclass(frozen=True)
class Seat:
    """What the board says of one worker.

    Attributes:
      pid: Its process; 0 if there is none.
      restarts: How often it was started again.
      state: What it can do.
    """

    pid: int
    restarts: int
    state: State


class Board:
    """The board, by a file that every process maps.

    Args:
      path: The file.
      workers: How many workers there are.
    """

    def __init__(self, path: Path, workers: int):
        with path.open("a+b") as file:
            file.truncate(workers * _SEAT.size)
            self._memory = mmap.mmap(file.fileno(), workers * _SEAT.size)
        self._workers = workers

    def seats(self) -> list[Seat]:
        """All workers, in order."""
        return [
            Seat(pid, restarts, State(state))
            for pid, restarts, state in _SEAT.iter_unpack(bytes(self._memory))
        ]

    def set_state(self, worker: int, state: State) -> None:
        """Notes what a worker can do."""
        self._write(worker, _STATE, state)

    def set_pid(self, worker: int, pid: int) -> None:
        """Notes which process a worker is; 0 for none."""
        self._write(worker, _PID, pid)

    def count_restart(self, worker: int) -> None:
        """Notes that a worker is started again."""
        self._write(worker, _RESTARTS, self.seats()[worker].restarts + 1)

    def others(self, worker: int) -> Iterator[Seat]:
        """All workers but one."""
        return (seat for number, seat in enumerate(self.seats()) if number != worker)

    def _write(self, worker: int, field: slice, value: int) -> None:
        start = worker * _SEAT.size
        self._memory[start + field.start : start + field.stop] = _NUMBER.pack(value)


@dataclasses.dataclass(frozen=True)
class Worker:
    """A worker's place among the others.

    Attributes:
      number: Which one it is, from 0.
      board: What all of them know.
      folder: Shared by all of them, with the files of their metrics.
      lifeline: File descriptor that can be read once the supervisor has gone.
      listens_first: Whether it listens before it has loaded what it serves, as all do when the
        server starts: clients are told then that it is not ready. Later a worker takes no
        connection from the others that it could not serve.
    """

    number: int
    board: Board
    folder: Path
    lifeline: int
    listens_first: bool

    def report(self, state: State) -> None:
        """Lets the others know what this worker can do."""
        self.board.set_state(self.number, state)

    def others_are_ready(self) -> bool:
        """Whether every other worker that should listen serves."""
        return all(seat.state != State.STARTING for seat in self.board.others(self.number))
