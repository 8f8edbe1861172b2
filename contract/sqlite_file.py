"""SQLite files that several programs on one machine read and write at the same time.

The files use a write-ahead log, so that readers never wait for writers. The programs share memory
for this log, so that the file must not be on a network file system
(https://www.sqlite.org/wal.html).
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from contract.errors import UserError

Sync = Literal["full", "normal"]

# How long to wait for another program that is writing.
BUSY_SECONDS: Final = 10.0
_ONLY_OWNER: Final = 0o600


class SqliteFile:
    """An SQLite file with its connections.

    Attributes:
      database: The connection that writes; only one thread may use it at a time.
    """

    def __init__(
        self,
        path: Path,
        what: str,
        error: type[UserError],
        *,
        version: int,
        schema: Sequence[str],
        sync: Sync = "full",
        is_private: bool = False,
    ) -> None:
        """Opens the file, and creates it if there is none.

        Args:
          path: Path of the file.
          what: What the file is, for messages, such as "log of changes".
          error: The class of the errors to raise.
          version: The format that the caller reads and writes.
          schema: Statements that create missing tables.
          sync: With ``full``, writes survive a power failure. With ``normal``, they survive a crash
            of the program, but a power failure may lose the last ones.
          is_private: Whether only the owner may read the file, and deleted content is overwritten.

        Raises:
          UserError: an ``error``, if the file cannot be opened or has a later format.
        """
        self._path = path
        self._what = what
        self._error = error
        self._sync = sync
        self._is_private = is_private
        self._connections: list[sqlite3.Connection] = []
        with self.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_private:
                # SQLite creates the log files beside it with the same mode.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, _ONLY_OWNER))
            self.database = self.connect()
            (found,) = self.database.execute("PRAGMA user_version").fetchone()
            if found > version:
                raise error(
                    f"{path} is a {what} of format {found}; this program reads format {version}."
                    " Use the version of the program that wrote it"
                )
            with self.transaction():
                for statement in schema:
                    self.database.execute(statement)
                self.database.execute(f"PRAGMA user_version = {version}")

    def connect(self) -> sqlite3.Connection:
        """Returns another connection, which only one thread may use at a time."""
        connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        if self._is_private:
            connection.execute("PRAGMA secure_delete = ON")
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Writes all statements that ``database`` executes inside, or none if one fails."""
        # IMMEDIATE waits for other writers now and not in the middle of the transaction.
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors inside into an ``error`` that names the file and says what to do."""
        try:
            yield
        except (sqlite3.Error, OSError) as e:
            reason = f"{os.strerror(e.errno)}" if isinstance(e, OSError) and e.errno else str(e)
            raise self._error(
                f"The {self._what} {self._path} cannot be used ({reason}); its directory must be"
                " writable and on a local disk with space left"
            ) from e

    def close(self) -> None:
        """Closes all connections."""
        for connection in self._connections:
            connection.close()
