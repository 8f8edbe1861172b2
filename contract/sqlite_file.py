"""Files of SQLite that several programs of one machine read and write at the same time.

They have a write-ahead log, so readers wait for nobody. It needs memory that its readers share, so
the file must not be on a network file system (https://www.sqlite.org/wal.html).
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from contract.errors import UserError

Sync = Literal["full", "normal"]

# For how long another program may be writing.
BUSY_SECONDS: Final = 10.0
_ONLY_OWNER: Final = 0o600


class SqliteFile:
    """A file, and the connection that writes to it.

    Attributes:
      database: For the use of one thread at a time.
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
        """Opens the file; makes it if there is none.

        Args:
          path: Where it is.
          what: What it is, for messages: "log of changes".
          error: The class of what is raised.
          version: The format that the caller reads and writes.
          schema: Statements that make the tables that are missing.
          sync: ``full``: what was written survives a loss of power. ``normal``: it survives the
            end of the program, and a loss of power may take the last writes.
          is_private: Whether only its owner can read the file, and what is deleted is overwritten.

        Raises:
          UserError: an ``error``; it cannot be opened, or is of a later format.
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
                # SQLite gives the files beside it the same mode.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, _ONLY_OWNER))
            self.database = self.connect()
            (found,) = self.database.execute("PRAGMA user_version").fetchone()
            if found > version:
                raise error(
                    f"{path} is a {what} of format {found}; this program reads format {version}."
                    " Use the program that wrote it"
                )
            with self.transaction():
                for statement in schema:
                    self.database.execute(statement)
                self.database.execute(f"PRAGMA user_version = {version}")

    def connect(self) -> sqlite3.Connection:
        """Returns a further connection, for the use of one thread at a time."""
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
        """Everything that is executed within is written, or nothing."""
        # IMMEDIATE waits for another writer here, and not in the middle.
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Says of which file the errors within are, and what to do."""
        try:
            yield
        except (sqlite3.Error, OSError) as e:
            reason = f"{os.strerror(e.errno)}" if isinstance(e, OSError) and e.errno else str(e)
            raise self._error(
                f"The {self._what} {self._path} cannot be used ({reason}); its directory must be on"
                " a local disk with space left, and writable"
            ) from e

    def close(self) -> None:
        """Closes all connections."""
        for connection in self._connections:
            connection.close()
