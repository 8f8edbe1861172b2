"""A lock for either one writer or any number of readers."""

import contextlib
import threading
from collections.abc import Iterator


class ReadWriteLock:
    """Lock that readers share and a writer holds alone; a waiting writer blocks new readers.

    The standard library has no such lock. Not reentrant.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers_waiting = 0
        self._is_writing = False

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Holds the lock, shared with other readers."""
        with self._changed:
            while self._is_writing or self._writers_waiting:
                self._changed.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Holds the lock exclusively."""
        with self._changed:
            self._writers_waiting += 1
            try:
                while self._is_writing or self._readers:
                    self._changed.wait()
            finally:
                self._writers_waiting -= 1
                self._changed.notify_all()
            self._is_writing = True
        try:
            yield
        finally:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
