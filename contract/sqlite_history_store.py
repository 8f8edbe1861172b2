"""The store of histories in a local file."""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from contract.histories import NOBODY, Person, Retention
from contract.history_store import (
    KEY_SECONDS,
    Batch,
    Hashes,
    HistoryStoreError,
    Outcome,
    applied,
)
from contract.sqlite_file import BUSY_SECONDS, SqliteFile, Sync

_FORMAT: Final = 1
_PEOPLE_AT_ONCE: Final = 500


class SqliteHistoryStore:
    """A store in a local file, for servers on one machine; see ``contract.sqlite_file``.

    Only the owner of the file can read it.
    """

    def __init__(
        self,
        path: Path,
        retention: Retention,
        sync: Sync = "full",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the file, and creates it if there is none.

        Args:
          path: Path of the file.
          retention: How much is kept about a person, and for how long.
          sync: See ``SqliteFile``.
          clock: Returns the current time in seconds since the epoch, by which events expire and
            request keys are forgotten.

        Raises:
          HistoryStoreError: if the file cannot be opened or has a later format.
        """
        self._path = path
        self._retention = retention
        self._clock = clock
        self._lock = threading.Lock()
        self._readers = threading.local()
        self._file = SqliteFile(
            path,
            "store of histories",
            HistoryStoreError,
            version=_FORMAT,
            schema=_SCHEMA,
            sync=sync,
            is_private=True,
        )
        self._database = self._file.database
        with self._file.explained():
            with self._file.transaction():
                insert = "INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT 1 FROM secret)"
                self._database.execute(insert, [Hashes.new_secret()])
            (secret,) = self._database.execute("SELECT secret FROM secret").fetchone()
        self._hashes = Hashes(secret)

    def add(self, batches: Sequence[Batch]) -> list[Outcome]:
        """See ``HistoryStore``."""
        with self._lock, self._file.explained(), self._file.transaction():
            now = self._clock()
            self._database.execute("DELETE FROM keys WHERE time < ?", [now - KEY_SECONDS])
            return [self._add(batch, now) for batch in batches]

    def read(self, user_ids: Sequence[str]) -> list[Person]:
        """See ``HistoryStore``."""
        people = [self._hashes.of("user", user_id) for user_id in user_ids]
        found: dict[bytes, bytes] = {}
        with self._file.explained():
            reader = self._reader()
            for start in range(0, len(people), _PEOPLE_AT_ONCE):
                some = people[start : start + _PEOPLE_AT_ONCE]
                places = ",".join("?" * len(some))
                found.update(
                    reader.execute(
                        f"SELECT person, content FROM people WHERE person IN ({places})", some
                    )
                )
        oldest = self._retention.oldest(self._clock())
        return [
            Person.from_json(found[person]).since(oldest) if person in found else NOBODY
            for person in people
        ]

    def erase(self, user_ids: Sequence[str]) -> int:
        """See ``HistoryStore``."""
        if not user_ids:
            return 0
        with self._lock, self._file.explained():
            erased = 0
            with self._file.transaction():
                for user_id in user_ids:
                    person = self._hashes.of("user", user_id)
                    delete = "DELETE FROM people WHERE person = ?"
                    erased += self._database.execute(delete, [person]).rowcount
                    insert = "INSERT OR REPLACE INTO erased VALUES (?, ?)"
                    self._database.execute(insert, [person, int(self._clock())])
            # Deleted cells are overwritten (secure_delete), but their old pages are still in the
            # write-ahead log, and pages that were split may contain copies of cells.
            self._database.execute("VACUUM")
            checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
            (is_busy, *_) = self._database.execute(checkpoint).fetchone()
        if is_busy:
            raise HistoryStoreError(
                f"The people were erased from {self._path}, but its write-ahead log may still"
                " contain them, because another program has been reading the file for"
                f" {BUSY_SECONDS:g} seconds; repeat the erasure"
            )
        return erased

    def purge(self, limit: int) -> int:
        """See ``HistoryStore``."""
        oldest = self._retention.oldest(self._clock())
        with self._lock, self._file.explained(), self._file.transaction():
            execute = self._database.execute
            execute("DELETE FROM erased WHERE time < ?", [oldest])
            select = "SELECT person, content FROM people WHERE oldest < ? LIMIT ?"
            expired = execute(select, [oldest, limit]).fetchall()
            for person, content in expired:
                self._put(person, Person.from_json(content).since(oldest))
            return len(expired)

    def count(self) -> int:
        """See ``HistoryStore``."""
        with self._file.explained():
            return self._reader().execute("SELECT COUNT(*) FROM people").fetchone()[0]

    def close(self) -> None:
        """See ``HistoryStore``."""
        with self._lock:
            self._file.close()

    def _add(self, batch: Batch, now: float) -> Outcome:
        execute = self._database.execute
        if batch.key:
            key = self._hashes.of("key", batch.key)
            if execute("SELECT 1 FROM keys WHERE key = ?", [key]).fetchone():
                return Outcome(0, is_repeated=True)
            execute("INSERT INTO keys VALUES (?, ?)", [key, now])
        oldest = self._retention.oldest(now)
        taken = 0
        for user_id, reported in batch.reports.items():
            person = self._hashes.of("user", user_id)
            row = execute("SELECT content FROM people WHERE person = ?", [person]).fetchone()
            before = Person.from_json(row[0]).since(oldest) if row else NOBODY
            row = execute("SELECT time FROM erased WHERE person = ?", [person]).fetchone()
            after = applied(before, reported, row and row[0], self._retention, now)
            if after != before:
                self._put(person, after)
                taken += len({*after.events}.difference(before.events))
        return Outcome(taken)

    def _put(self, person: bytes, content: Person) -> None:
        if content:
            self._database.execute(
                "INSERT INTO people VALUES (?, ?, ?) ON CONFLICT (person) DO UPDATE"
                " SET oldest = excluded.oldest, content = excluded.content",
                [person, content.oldest, content.to_json()],
            )
        else:
            self._database.execute("DELETE FROM people WHERE person = ?", [person])

    def _reader(self) -> sqlite3.Connection:
        """Returns this thread's own connection; with a write-ahead log, readers never wait."""
        if not hasattr(self._readers, "connection"):
            self._readers.connection = self._file.connect()
        return self._readers.connection


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS people (person BLOB PRIMARY KEY, oldest INTEGER NOT NULL,"
    " content BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_oldest ON people (oldest)",
    "CREATE TABLE IF NOT EXISTS erased (person BLOB PRIMARY KEY, time INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS keys (key BLOB PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS secret (secret BLOB NOT NULL)",
)
