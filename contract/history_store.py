"""The interface of the durable stores of people's histories, and what the stores share.

A store has one record for each person. All servers read and write the records, and the pipeline
fills them. A store contains no ids: the key of a record is a keyed hash of the person's id. Whoever
has the store, which includes the key of the hashes, can look up a person by id but cannot list ids.

An erasure leaves the hash and the time of the erasure behind. Events up to that time are not
accepted again, wherever they come from. The hash is removed once they would have expired anyway.
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

# For how long a request's key is remembered, so that the request is not carried out twice.
KEY_SECONDS: Final = 24 * 3600.0
_HASH_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_SUFFIX: Final = ".histories.sqlite"


class HistoryStoreError(UserError):
    """A store that cannot be read or written."""


class Batch(NamedTuple):
    """The events and profiles that one request reports.

    Attributes:
      reports: The reported events and profile by the person's id.
      key: A batch is not written if one with the same key was written within the last day; empty
        for no key.
    """

    reports: Mapping[str, Reported]
    key: str = ""


class Outcome(NamedTuple):
    """The result of writing a batch.

    Attributes:
      events: Number of events that are kept and were not known before.
      is_repeated: Whether a batch with the same key was written before.
    """

    events: int
    is_repeated: bool = False


class HistoryStore(Protocol):
    """A store of the histories of one model, safe to use from several threads and processes."""

    def add(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Writes either all batches or none, durably.

        Returns:
          The result for each batch.

        Raises:
          HistoryStoreError: if the store cannot be written.
        """

    def read(self, user_ids: Sequence[str]) -> list[Person]:
        """Returns the stored people in the order of ``user_ids``; ``NOBODY`` for unknown ones.

        Raises:
          HistoryStoreError: if the store cannot be read.
        """

    def erase(self, user_ids: Sequence[str]) -> int:
        """Removes everything that is kept about people, without leaving traces of it in the store.

        Events and profiles from before the erasure are not accepted again.

        Returns:
          Number of these people about whom something was kept.

        Raises:
          HistoryStoreError: if the erasure is not complete and must be repeated.
        """

    def purge(self, limit: int) -> int:
        """Removes expired events and profiles of at most ``limit`` people.

        Returns:
          Number of people of whom something was removed.

        Raises:
          HistoryStoreError: if the store cannot be written.
        """

    def count(self) -> int:
        """Returns the number of people about whom something is kept."""

    def close(self) -> None:
        """Closes the store."""


def open_store(
    location: str, model: str, retention: Retention, *, sync: Sync = "full", is_new: bool = True
) -> HistoryStore:
    """Opens the store of a model.

    Args:
      location: A directory, or the location of a Redis server.
      model: Name of the model.
      retention: How much is kept about a person, and for how long.
      sync: See ``SqliteFile``.
      is_new: Whether to create the store if there is none.

    Raises:
      RedisLocationError: if ``location`` is not a valid location.
      HistoryStoreError: if the store cannot be opened, or there is none and ``is_new`` is false.
    """
    check_location(location)
    if is_redis(location):
        # Imported here, because only users of Redis need the library.
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
    """Returns a person after a report; used by all stores.

    Args:
      before: The stored person, without expired events and profile.
      reported: The reported events and profile.
      erased: When the person was last erased, in seconds since the epoch; None if never.
      retention: How much is kept about a person, and for how long.
      now: Current time in seconds since the epoch.
    """
    oldest = retention.oldest(now)
    since = oldest if erased is None else max(oldest, int(erased) + 1)
    return before.after(reported, since, retention.max_events)


class Hashes:
    """Keyed hashes that stand for the ids of people and the keys of requests in a store."""

    def __init__(self, secret: bytes):
        self._secret = secret

    @staticmethod
    def new_secret() -> bytes:
        """Returns a random hash key for a new store."""
        return secrets.token_bytes(_SECRET_BYTES)

    def of(self, kind: Literal["user", "key"], text: str) -> bytes:
        """Returns the hash of an id or of a request's key."""
        content = f"{kind}:{text}".encode(errors="surrogateescape")
        return hmac.digest(self._secret, content, hashlib.sha256)[:_HASH_BYTES]
