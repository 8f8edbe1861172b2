"""What the tests of ``pipeline.tune.isolated`` call in another process."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from contract.errors import UserError

Send = Callable[[Any], Any]


def add_answers(values: Sequence[int], send: Send) -> tuple[int, int]:
    """Sends every value; returns this process and the sum of the answers."""
    print("printed over there")
    os.write(2, b"written to descriptor 2\n")
    return os.getpid(), sum(send(value) for value in values)


def refuse(send: Send) -> None:
    """Raises an error with a message for people, behind another one."""
    try:
        try:
            {}["rows"]
        except KeyError as error:
            raise UserError("The log is empty. Choose another") from error
    except UserError as error:
        raise RuntimeError("wrapped by Beam") from error


def die(number: int, send: Send) -> None:
    """Ends by a signal."""
    os.kill(os.getpid(), number)


def say_pid_and_wait(send: Send) -> None:
    """Sends the id of this process, and waits for an answer."""
    send(os.getpid())


def say_pid_and_hang(send: Send) -> None:
    """Sends the id of this process, and goes on for ever."""
    send(os.getpid())
    while True:
        signal.pause()
