"""The durable log of changes of a model's catalogue, and the one in a local file.

``contract.redis_change_log`` is the one of several machines.

The log has one entry for each item that was ever changed: the latest change, which says all that
is different of the item from how it was pushed. Entries have positions that only grow. A reader
that has applied all entries up to a position asks for those after it; several servers that read
the same log so arrive at the same catalogue, in whatever order they start.

A version that item refresh has made contains all entries up to a position, which stands in its
manifest. Once every version in the directory does, these entries can go.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from contract.catalogue_changes import Change
from contract.errors import UserError
from contract.redis_connection import RedisLocation, check_location, is_redis
from contract.sqlite_file import SqliteFile

# For how long the key of a request is remembered, so that it is not done twice.
KEY_SECONDS: Final = 24 * 3600.0
_FORMAT = 1
# Of the file of a log, after the name of its model.
_SUFFIX = ".changes.sqlite"


class ChangeLogError(UserError):
    """A log that cannot be read or written."""


class RepeatedKeyError(Exception):
    """Nothing was written, because the key of a request is remembered: it was done before."""


class Entry(NamedTuple):
    """The latest change of an item.

    Attributes:
      position: Larger than that of every change before it.
      item_id: The item.
      change: What is different of it from how it was pushed.
    """

    position: int
    item_id: str
    change: Change


# Gives what is different of an item from what was different before.
Update = Callable[[Change | None], Change]


class ChangeLog(Protocol):
    """Keeps the changes of one model; for use from several threads and processes.

    Attributes:
      identity: Different from that of every other log. Positions of another log mean nothing.
    """

    identity: str

    def append(self, updates: Sequence[tuple[str, Update]], keys: Sequence[str] = ()) -> int:
        """Writes changes, all of them or none; they survive whatever happens afterwards.

        Args:
          updates: Items and how they change, in this order.
          keys: Keys of the requests that ask for them, which are remembered.

        Returns:
          The position of the last change.

        Raises:
          RepeatedKeyError: one of the keys is remembered.
          ChangeLogError: it cannot be written.
        """

    def seen(self, keys: Sequence[str]) -> set[str]:
        """Returns those of ``keys`` that are remembered."""

    def read(self, after: int, limit: int) -> list[Entry]:
        """Returns entries after a position, in their order, at most ``limit`` of them.

        Raises:
          ChangeLogError: it cannot be read, or it ends before ``after``: it is an older copy of the
            log that was read before.
        """

    def kept(self, through: int) -> list[Entry]:
        """Returns entries up to a position that no version contains: items out of stock."""

    def last(self) -> int:
        """Returns the position of the last change; 0 if there was none."""

    def truncate(self, through: int) -> int:
        """Drops entries up to a position, but for those ``kept``; returns how many."""

    def close(self) -> None:
        """Lets go of the log."""


def open_log(location: str, model: str) -> ChangeLog:
    """Opens the log of a model; makes it if there is none.

    Args:
      location: A directory, or where a Redis server is, see ``RedisLocation``.
      model: Name of the model.

    Raises:
      RedisLocationError: it can be no location.
      ChangeLogError: it cannot be opened.
    """
    check_location(location)
    if is_redis(location):
        # Here, because only those who use it need the library.
        from contract.redis_change_log import RedisChangeLog

        return RedisChangeLog(location, model)
    return SqliteChangeLog(Path(location) / f"{model}{_SUFFIX}")


def find_log(location: str, model: str) -> ChangeLog:
    """Opens a log that a server has written.

    Args:
      location: As for ``open_log``.
      model: Name of the model.

    Raises:
      RedisLocationError: it can be no location.
      ChangeLogError: there is no such log, or it cannot be opened.
    """
    check_location(location)
    if is_redis(location):
        from contract.redis_change_log import logged_models

        shown, models = RedisLocation.parse(location).shown, logged_models(location)
    else:
        paths = Path(location).glob(f"*{_SUFFIX}")
        shown, models = location, [path.name.removesuffix(_SUFFIX) for path in paths]
    if model not in models:
        raise ChangeLogError(
            f"{shown} has no log of changes of a model {model!r}; it has logs of:"
            f" {', '.join(map(repr, sorted(models))) or 'none'}. Give what the server has as"
            " --live_catalogue, and as --model_name the name under which it serves the model"
        )
    return open_log(location, model)


class SqliteChangeLog:
    """A log in a local file, for the servers of one machine; see ``contract.sqlite_file``."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens the file; makes it if there is none.

        Args:
          path: Where it is.
          clock: Gives the seconds by which keys are forgotten.

        Raises:
          ChangeLogError: it cannot be opened, or is of another format.
        """
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._file = SqliteFile(
            path, "log of changes", ChangeLogError, version=_FORMAT, schema=_SCHEMA
        )
        self._database = self._file.database
        with self._file.explained():
            with self._file.transaction():
                insert = "INSERT INTO last SELECT 0, ? WHERE NOT EXISTS (SELECT 1 FROM last)"
                self._database.execute(insert, [uuid.uuid4().hex])
            (self.identity,) = self._database.execute("SELECT identity FROM last").fetchone()

    def append(self, updates: Sequence[tuple[str, Update]], keys: Sequence[str] = ()) -> int:
        """See ``ChangeLog``."""
        with self._lock, self._file.explained(), self._file.transaction():
            if self._remembered(keys):
                raise RepeatedKeyError
            execute = self._database.execute
            (position,) = execute("SELECT position FROM last").fetchone()
            for item, update in updates:
                row = execute("SELECT change FROM changes WHERE item = ?", [item]).fetchone()
                change = update(Change.from_json(row[0]) if row else None)
                position += 1
                execute(
                    "INSERT INTO changes (item, position, change, is_kept) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (item) DO UPDATE SET position = excluded.position,"
                    " change = excluded.change, is_kept = excluded.is_kept",
                    [item, position, change.to_json(), is_kept(change)],
                )
            execute("UPDATE last SET position = ?", [position])
            now = self._clock()
            execute("DELETE FROM keys WHERE time < ?", [now - KEY_SECONDS])
            for key in keys:
                execute("INSERT OR REPLACE INTO keys VALUES (?, ?)", [key, now])
            return position

    def seen(self, keys: Sequence[str]) -> set[str]:
        """See ``ChangeLog``."""
        with self._lock, self._file.explained():
            return self._remembered(keys)

    def read(self, after: int, limit: int) -> list[Entry]:
        """See ``ChangeLog``."""
        last = self.last()
        if last < after:
            raise ChangeLogError(
                f"The log of changes {self._path} ends at position {last}, although it was read up"
                f" to position {after} before: it is an older copy. Restore the newer file, or"
                " remove this one and send the lost changes again; then restart what uses it"
            )
        return self._entries("position > ? ORDER BY position LIMIT ?", after, limit)

    def kept(self, through: int) -> list[Entry]:
        """See ``ChangeLog``."""
        return self._entries("position <= ? AND is_kept ORDER BY position", through)

    def last(self) -> int:
        """See ``ChangeLog``."""
        with self._lock, self._file.explained():
            return self._database.execute("SELECT position FROM last").fetchone()[0]

    def truncate(self, through: int) -> int:
        """See ``ChangeLog``."""
        with self._lock, self._file.explained(), self._file.transaction():
            drop = "DELETE FROM changes WHERE position <= ? AND NOT is_kept"
            return self._database.execute(drop, [through]).rowcount

    def close(self) -> None:
        """See ``ChangeLog``."""
        with self._lock:
            self._file.close()

    def _remembered(self, keys: Sequence[str]) -> set[str]:
        find = "SELECT 1 FROM keys WHERE key = ? AND time >= ?"
        oldest = self._clock() - KEY_SECONDS
        return {key for key in keys if self._database.execute(find, [key, oldest]).fetchone()}

    def _entries(self, condition: str, *values: int) -> list[Entry]:
        with self._lock, self._file.explained():
            rows = self._database.execute(
                f"SELECT position, item, change FROM changes WHERE {condition}", values
            ).fetchall()
        return [Entry(position, item, Change.from_json(text)) for position, item, text in rows]


def is_kept(change: Change) -> bool:
    """Whether a version that contains the change does without it: it has to be told.

    An item out of stock keeps its vector in the version, so that it can come back.
    """
    return not change.in_stock and not change.is_removed


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS changes (item TEXT PRIMARY KEY, position INTEGER NOT NULL UNIQUE,"
    " change TEXT NOT NULL, is_kept INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS last (position INTEGER NOT NULL, identity TEXT NOT NULL)",
)
