"""Pools of threads that yield the processor to the event loop."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

_NICENESS = 5


def background_threads(number: int, name: str) -> ThreadPoolExecutor:
    """Creates a pool whose threads, and threads that they start, have a lower priority.

    Health checks, refusals and small requests need little of a processor, but need it at once. On
    Linux a thread inherits the niceness of the thread that starts it; TensorFlow's threads are
    started by the thread that loads the first model.

    Args:
      number: Most threads.
      name: Prefix of the threads' names.
    """
    return ThreadPoolExecutor(number, thread_name_prefix=name, initializer=_give_way)


def _give_way() -> None:
    with contextlib.suppress(AttributeError, OSError):  # the call does not exist, or is not allowed
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
