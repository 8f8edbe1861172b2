"""The durable log of changes of a model's catalogue, and its implementation in a local file.

``contract.redis_change_log`` is the implementation for servers on several machines.

The log has one entry for each item that was ever changed: the latest change, which holds all
differences between the item and how it was pushed. Positions of entries only grow. A reader that
has applied all entries up to a position asks for those after it. Servers that read the same log
therefore arrive at the same catalogue, in whatever order they start.

A version made by item refresh contains all entries up to a position that its manifest records.
Once every version in the directory contains an entry, the log can drop that entry.
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

# For how long a request's key is remembered, so that the request is not carried out twice.
KEY_SECONDS: Final = 24 * 3600.0
_FORMAT = 1
# Ending of a log's file name, after the name of the model.
_SUFFIX = ".changes.sqlite"


class ChangeLogError(UserError):
    """A log that cannot be read or written."""


class RepeatedKeyError(Exception):
    """Nothing was written, because a request with the same key was carried out before."""


class Entry(NamedTuple):
    """The latest change of an item.

    Attributes:
      position: Position in the log, larger than that of every earlier change.
      item_id: The item's id.
      change: The difference between the item now and the item as it was pushed.
    """

    position: int
    item_id: str
    change: Change


# Computes an item's new change from its previous one (None if there was none).
Update = Callable[[Change | None], Change]


class ChangeLog(Protocol):
    """A log of the changes of one model, safe to use from several threads and processes.

    Attributes:
      identity: Unique to this log. Positions are only valid in the log that gave them.
    """

    identity: str

    def append(self, updates: Sequence[tuple[str, Update]], keys: Sequence[str] = ()) -> int:
        """Writes either all changes or none, durably.

        Args:
          updates: Item ids and how the items change, applied in this order.
          keys: Keys of the requests behind the changes, which the log remembers.

        Returns:
          The position of the last change.

        Raises:
          RepeatedKeyError: if the log remembers one of the keys.
          ChangeLogError: if the log cannot be written.
        """

    def seen(self, keys: Sequence[str]) -> set[str]:
        """Returns those of ``keys`` that the log remembers."""

    def read(self, after: int, limit: int) -> list[Entry]:
        """Returns at most ``limit`` entries after a position, in order.

        Raises:
          ChangeLogError: if the log cannot be read, or ends before ``after``, which means that it
            is an older copy of the log that was read before.
        """

    def kept(self, through: int) -> list[Entry]:
        """Returns the entries up to a position that ``truncate`` keeps: items out of stock."""

    def last(self) -> int:
        """Returns the position of the last change; 0 if there was none."""

    def truncate(self, through: int) -> int:
        """Drops the entries up to a position except those of ``kept``; returns their number."""

    def close(self) -> None:
        """Closes the log."""


def open_log(location: str, model: str) -> ChangeLog:
    """Opens the log of a model, and creates it if there is none.

    Args:
      location: A directory, or the location of a Redis server (see ``RedisLocation``).
      model: Name of the model.

    Raises:
      RedisLocationError: if ``location`` is not a valid location.
      ChangeLogError: if the log cannot be opened.
    """
    check_location(location)
    if is_redis(location):
        # Imported here, because only users of Redis need the library.
        from contract.redis_change_log import RedisChangeLog

        return RedisChangeLog(location, model)
    return SqliteChangeLog(Path(location) / f"{model}{_SUFFIX}")


def find_log(location: str, model: str) -> ChangeLog:
    """Opens a log that a server has written.

    Args:
      location: As for ``open_log``.
      model: Name of the model.

    Raises:
      RedisLocationError: if ``location`` is not a valid location.
      ChangeLogError: if there is no such log, or it cannot be opened.
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
    """A log in a local file, for servers on one machine; see ``contract.sqlite_file``."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Opens the file, and creates it if there is none.

        Args:
          path: Path of the file.
          clock: Returns the current time in seconds, by which remembered keys expire.

        Raises:
          ChangeLogError: if the file cannot be opened, or has another format.
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
    """Whether the log must keep the change even after a version contains it.

    An item out of stock keeps its vector in the version, so that it can come back. The version does
    not record that the item is out of stock, so servers need the log entry.
    """
    return not change.in_stock and not change.is_removed


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS changes (item TEXT PRIMARY KEY, position INTEGER NOT NULL UNIQUE,"
    " change TEXT NOT NULL, is_kept INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS last (position INTEGER NOT NULL, identity TEXT NOT NULL)",
)
