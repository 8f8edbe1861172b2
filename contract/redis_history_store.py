"""The store of histories in a Redis or Valkey server, for servers on several machines.

Each person is a string whose key contains the hash of the person's id. Three sorted sets hold the
time of each person's oldest event, the erased people and the keys of written requests. A write
watches the keys that it has read and starts again if another server was faster. All keys of a model
are in one slot of a cluster.

How durable an acknowledged write is depends on the settings of the Redis server: with
``appendonly yes`` and ``appendfsync always``, it survives a power failure.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from contract import redis_connection
from contract.histories import NOBODY, Person, Retention
from contract.history_store import (
    KEY_SECONDS,
    Batch,
    Hashes,
    HistoryStoreError,
    Outcome,
    applied,
)

# A write fails after this many attempts in which other servers wrote the same people.
_MAX_ATTEMPTS: Final = 100


class RedisHistoryStore:
    """A store in a Redis server; see ``HistoryStore``."""

    def __init__(
        self,
        location: str,
        model: str,
        retention: Retention,
        clock: Callable[[], float] = time.time,
        *,
        is_new: bool = True,
    ) -> None:
        """Connects, and creates the store if there is none and ``is_new`` is true.

        Args:
          location: See ``redis_connection``.
          model: Name of the model.
          retention: How much is kept about a person, and for how long.
          clock: Returns the current time in seconds since the epoch, by which events expire and
            request keys are forgotten.
          is_new: Whether to create the store if there is none.

        Raises:
          RedisLocationError: if ``location`` is not a valid location, or the Python package redis
            is not installed.
          HistoryStoreError: if the server cannot be used, or if there is no store and ``is_new``
            is false.
        """
        parsed = redis_connection.RedisLocation.parse(location)
        self._shown = parsed.shown
        self._retention = retention
        self._clock = clock
        self._client = redis_connection.connect(parsed)
        self._prefix = f"mind:histories:{{{model}}}:"
        self._oldest, self._erased = f"{self._prefix}oldest", f"{self._prefix}erased"
        self._keys = f"{self._prefix}keys"
        secret = f"{self._prefix}secret"
        with self._explained():
            if is_new:
                self._client.set(secret, Hashes.new_secret().hex(), nx=True)
            found: Any = self._client.get(secret)
        if found is None:
            raise HistoryStoreError(
                f"{self._shown} has no histories of a model {model!r}. Use the name under which"
                " the server serves the model"
            )
        self._hashes = Hashes(bytes.fromhex(found))

    def add(self, batches: Sequence[Batch]) -> list[Outcome]:
        """See ``HistoryStore``."""
        users = {user: self._user(user) for batch in batches for user in batch.reports}
        keys = {b.key: self._hashes.of("key", b.key).hex() for b in batches if b.key}

        def write(pipe: Any, people: dict[str, Person]) -> list[Outcome]:
            now = self._clock()
            erased = dict(
                zip(users.values(), _scores(pipe, self._erased, users.values()), strict=True)
            )
            times = dict(zip(keys, _scores(pipe, self._keys, keys.values()), strict=True))
            seen = {key for key, at in times.items() if at is not None and at >= now - KEY_SECONDS}
            pipe.multi()
            pipe.zremrangebyscore(self._keys, "-inf", f"({now - KEY_SECONDS}")
            outcomes, changed = [], set()
            for batch in batches:
                if batch.key in seen:
                    outcomes.append(Outcome(0, is_repeated=True))
                    continue
                if batch.key:
                    seen.add(batch.key)
                    pipe.zadd(self._keys, {keys[batch.key]: now})
                taken = 0
                for user_id, reported in batch.reports.items():
                    hashed = users[user_id]
                    before = people[hashed].since(self._retention.oldest(now))
                    after = applied(before, reported, erased[hashed], self._retention, now)
                    if after != before:
                        people[hashed] = after
                        changed.add(hashed)
                        taken += len({*after.events}.difference(before.events))
                outcomes.append(Outcome(taken))
            self._put(pipe, {hashed: people[hashed] for hashed in changed})
            return outcomes

        return self._update(list(users.values()), write)

    def read(self, user_ids: Sequence[str]) -> list[Person]:
        """See ``HistoryStore``."""
        if not user_ids:
            return []
        oldest = self._retention.oldest(self._clock())
        with self._explained():
            found: Any = self._client.mget([self._of(self._user(u)) for u in user_ids])
        return [Person.from_json(text).since(oldest) if text else NOBODY for text in found]

    def erase(self, user_ids: Sequence[str]) -> int:
        """See ``HistoryStore``."""
        if not user_ids:
            return 0
        people = [self._user(user_id) for user_id in user_ids]
        with self._explained(), self._client.pipeline() as pipe:
            pipe.zadd(self._erased, dict.fromkeys(people, int(self._clock())))
            pipe.zrem(self._oldest, *people)
            pipe.delete(*map(self._of, people))
            return pipe.execute()[-1]

    def purge(self, limit: int) -> int:
        """See ``HistoryStore``."""
        oldest = self._retention.oldest(self._clock())
        with self._explained():
            self._client.zremrangebyscore(self._erased, "-inf", f"({oldest}")
            expired: Any = self._client.zrangebyscore(
                self._oldest, "-inf", f"({oldest}", start=0, num=limit
            )

        def write(pipe: Any, people: dict[str, Person]) -> None:
            pipe.multi()
            self._put(pipe, {hashed: kept.since(oldest) for hashed, kept in people.items()})

        if expired:
            self._update(expired, write)
        return len(expired)

    def count(self) -> int:
        """See ``HistoryStore``."""
        with self._explained():
            found: Any = self._client.zcard(self._oldest)
        return found

    def close(self) -> None:
        """See ``HistoryStore``."""
        self._client.close()

    def _user(self, user_id: str) -> str:
        return self._hashes.of("user", user_id).hex()

    def _of(self, hashed: str) -> str:
        return f"{self._prefix}person:{hashed}"

    def _put(self, pipe: Any, people: dict[str, Person]) -> None:
        for hashed, person in people.items():
            if person:
                pipe.set(self._of(hashed), person.to_json())
                pipe.zadd(self._oldest, {hashed: person.oldest})
            else:
                pipe.delete(self._of(hashed))
                pipe.zrem(self._oldest, hashed)

    def _update(self, people: Sequence[str], write: Callable[[Any, dict[str, Person]], Any]) -> Any:
        """Reads people and changes them, and starts again if another server wrote them meanwhile.

        Args:
          people: Hashes of the people to change.
          write: Receives a pipeline, whose transaction it must begin with ``multi``, and the
            stored people by their hashes.

        Returns:
          The result of ``write``.

        Raises:
          HistoryStoreError: if the server cannot be used, or other servers keep writing the same
            people.
        """
        from redis.exceptions import WatchError

        with self._explained(), self._client.pipeline() as pipe:
            for _ in range(_MAX_ATTEMPTS):
                keys = [self._of(hashed) for hashed in people]
                pipe.watch(self._erased, *keys)
                found: Any = pipe.mget(keys) if keys else []
                known = {
                    hashed: Person.from_json(text) if text else NOBODY
                    for hashed, text in zip(people, found, strict=True)
                }
                result = write(pipe, known)
                with contextlib.suppress(WatchError):
                    pipe.execute()
                    return result
        raise HistoryStoreError(
            f"The people were not written to {self._shown}, because other servers wrote the same"
            f" people during each of {_MAX_ATTEMPTS} attempts; send the request again"
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except redis_connection.errors() as e:
            raise HistoryStoreError(
                f"The store of histories in {self._shown} cannot be used ({e}); check that the"
                " server runs, can be reached, and has memory left"
            ) from e


def _scores(pipe: Any, name: str, members: Collection[str]) -> list[float | None]:
    return pipe.zmscore(name, list(members)) if members else []
