"""The durable store of people's histories: what every one of them does.

The store has one record for each person, which all servers read and write, and which the pipeline
fills. It names nobody: the key of a record is a keyed hash of the person's id. Whoever has the
store, and with it the key of the hashes, can find a person whose id is known, and cannot list ids.

An erasure leaves the hash and the time of the erasure behind. Events up to that time are not taken
again, wherever they come from; once they would have expired anyway, the hash goes as well.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from contract.errors import UserError
from contract.histories import Person, Reported, Retention
from contract.redis_connection import check_location, is_redis
from contract.sqlite_file import Sync

# For how long the key of a request is remembered, so that it is not done twice.
KEY_SECONDS: Final = 24 * 3600.0
_HASH_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_SUFFIX: Final = ".histories.sqlite"


class HistoryStoreError(UserError):
    """A store that cannot be read or written."""


class Batch(NamedTuple):
    """What one request reports.

    Attributes:
      reports: What is reported, by the person's id.
      key: A batch with the key of one that was written in the last day is not written again;
        empty is none.
    """

    reports: Mapping[str, Reported]
    key: str = ""


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
      events: Those that are kept and were not known.
      is_repeated: Whether a batch of the same key was written before.
    """

    events: int
    is_repeated: bool = False


class HistoryStore(Protocol):
    """Keeps the people of one model; for use from several threads and processes."""

    def add(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Writes what is reported, all of it or nothing; it survives whatever happens afterwards.

        Returns:
          What became of each batch.

        Raises:
          HistoryStoreError: it cannot be written.
        """

    def read(self, user_ids: Sequence[str]) -> list[Person]:
        """Returns what is kept of people, in the order of ``user_ids``; ``NOBODY`` if nothing is.

        Raises:
          HistoryStoreError: it cannot be read.
        """

    def erase(self, user_ids: Sequence[str]) -> int:
        """Removes all that is kept of people, and sees to it that no trace of it is left.

        Nothing that happened until now is taken of them again.

        Returns:
          Of how many of them something was kept.

        Raises:
          HistoryStoreError: the erasure is not complete and must be repeated.
        """

    def purge(self, limit: int) -> int:
        """Removes what has expired, of at most ``limit`` people.

        Returns:
          Of how many people something was removed.

        Raises:
          HistoryStoreError: it cannot be written.
        """

    def count(self) -> int:
        """Returns of how many people something is kept."""

    def close(self) -> None:
        """Lets go of the store."""


def open_store(
    location: str, model: str, retention: Retention, *, sync: Sync = "full", is_new: bool = True
) -> HistoryStore:
    """Opens the store of a model.

    Args:
      location: A directory, or the location of a Redis server.
      model: Name of the model.
      retention: How much is kept.
      sync: See ``SqliteFile``.
      is_new: Whether to make the store if there is none.

    Raises:
      RedisLocationError: it can be no location.
      HistoryStoreError: it cannot be opened, or there is none.
    """
    check_location(location)
    if is_redis(location):
        # Here, because only those who use it need the library.
        from contract.redis_history_store import RedisHistoryStore

        return RedisHistoryStore(location, model, retention, is_new=is_new)
    path = Path(location) / f"{model}{_SUFFIX}"
    if not is_new and not path.exists():
        names = sorted(p.name.removesuffix(_SUFFIX) for p in path.parent.glob(f"*{_SUFFIX}"))
        raise HistoryStoreError(
            f"{location} has no histories of a model {model!r}; it has those of"
            f" {', '.join(names) or 'no model'}. Name the model as the server does"
        )
    from contract.sqlite_history_store import SqliteHistoryStore

    return SqliteHistoryStore(path, retention, sync)


def applied(
    before: Person, reported: Reported, erased: float | None, retention: Retention, now: float
) -> Person:
    """Returns a person with what was reported, for the stores.

    Args:
      before: Without what has expired.
      reported: What was reported.
      erased: When the person was erased; None if that never was.
      retention: How much is kept.
      now: Seconds since the epoch.
    """
    oldest = retention.oldest(now)
    since = oldest if erased is None else max(oldest, int(erased) + 1)
    return before.after(reported, since, retention.max_events)


class Hashes:
    """Keyed hashes, under which a store keeps people and the keys of requests."""

    def __init__(self, secret: bytes):
        self._secret = secret

    @staticmethod
    def new_secret() -> bytes:
        """Returns a key for a new store."""
        return secrets.token_bytes(_SECRET_BYTES)

    def of(self, kind: Literal["user", "key"], text: str) -> bytes:
        """Returns the hash of an id or of a request's key."""
        content = f"{kind}:{text}".encode(errors="surrogateescape")
        return hmac.digest(self._secret, content, hashlib.sha256)[:_HASH_BYTES]
