"""Pools of threads whose work gives way to the event loop."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

_NICENESS = 5


def background_threads(number: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads, and those that they start, give way to the rest of the process.

    Health checks, refusals and small requests need little of a processor, but need it at once.
    On Linux a thread starts with the niceness of the one that starts it; TensorFlow's threads
    are started by the one that loads the first model.

    Args:
      number: Threads, at most.
      name: First part of their names.
    """
    return ThreadPoolExecutor(number, thread_name_prefix=name, initializer=_give_way)


def _give_way() -> None:
    with contextlib.suppress(AttributeError, OSError):  # no such call, or it is not allowed
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
