"""A log of changes in a Redis or Valkey server, for servers on several machines.

Every write, and every read of a batch of entries, is one Lua script, which the server runs
atomically. A position and its change therefore appear at the same moment, and a reader never skips
a change that appears later. The update functions are Python and run in this process. The writing
script compares the changes that they were given with those in the log and writes nothing if another
writer was faster. The update functions then run again.
"""

import contextlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from contract.catalogue_changes import Change
from contract.change_log import (
    KEY_SECONDS,
    ChangeLogError,
    Entry,
    RepeatedKeyError,
    Update,
    is_kept,
)
from contract.redis_connection import ANSWER_SECONDS, RedisLocation, connect, errors

_log = logging.getLogger(__name__)

_FORMAT: Final = 1
# A write fails after this many attempts in which other writers changed the same items.
_ATTEMPTS: Final = 100
# Entries that one script reads or drops; limited because a running script blocks the server.
_AT_ONCE: Final = 8192

# Fields of the hash with the log's identity and last position.
_IDENTITY: Final = "identity"
_POSITION: Final = "position"
_VERSION: Final = "format"

# The key of that hash, without the prefix that all keys of the log have.
_LAST: Final = ":last"

# Status values that the scripts return.
_DONE, _LOST, _REPEATED, _CHANGED = "done", "lost", "repeated", "changed"


class RedisChangeLog:
    """A log in a Redis or Valkey server; see ``ChangeLog``.

    All its keys begin with ``mind:changes:{MODEL}``: a hash with the log's identity and last
    position, a hash of the changes by item, a sorted set of the items' positions, a sorted set
    of the positions that ``truncate`` keeps, and a string for each remembered request key.

    If the server loses changes that it had acknowledged, because it restarts without them or is
    replaced by a replica that lags, the same positions are given to other changes. Every operation
    therefore compares the log with the largest position seen so far and fails if the log ends
    before it.

    Attributes:
      identity: See ``ChangeLog``.
    """

    def __init__(self, location: str, model: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Opens the log, and creates it if there is none.

        Args:
          location: See ``RedisLocation``.
          model: Name of the model.
          answer_seconds: Longest time to wait for an answer, in seconds.

        Raises:
          RedisLocationError: if ``location`` is not a valid location, or the Python package redis
            is not installed.
          ChangeLogError: if the server cannot be used, or the log has a later format.
        """
        parsed = RedisLocation.parse(location)
        self._shown = parsed.shown
        # Any, because the types of redis-py do not take into account that answers are decoded.
        self._client: Any = connect(parsed, answer_seconds)
        base = _base(model)
        self._name = f"The log of changes {base} in {parsed.shown}"
        self._last_key = f"{base}{_LAST}"
        self._changes_key = f"{base}:changes"
        self._positions_key = f"{base}:positions"
        self._kept_key = f"{base}:kept"
        self._request_key = f"{base}:request:"
        self._append = self._client.register_script(_APPEND)
        self._read = self._client.register_script(_READ)
        self._drop = self._client.register_script(_DROP)
        # The largest position seen so far.
        self._seen_position = 0
        with self._explained():
            with self._client.pipeline() as pipeline:
                pipeline.hsetnx(self._last_key, _IDENTITY, uuid.uuid4().hex)
                pipeline.hsetnx(self._last_key, _POSITION, 0)
                pipeline.hsetnx(self._last_key, _VERSION, _FORMAT)
                pipeline.hmget(self._last_key, _IDENTITY, _POSITION, _VERSION)
                self.identity, position, version = pipeline.execute()[-1]
            if int(version) > _FORMAT:
                raise ChangeLogError(
                    f"{self._name} is of format {version}; this program reads format {_FORMAT}."
                    " Use the version of the program that wrote it"
                )
            self._seen_position = int(position)
            self._warn_of_losses()

    def append(self, updates: Sequence[tuple[str, Update]], keys: Sequence[str] = ()) -> int:
        """See ``ChangeLog``."""
        items = list(dict.fromkeys(item for item, _ in updates))
        request_keys = [self._request_key + key for key in keys]
        with self._explained():
            for _ in range(_ATTEMPTS):
                before = self._client.hmget(self._changes_key, items) if items else []
                arguments = _changed(updates, dict(zip(items, before, strict=True)))
                status, value = self._run(
                    self._append,
                    [self._changes_key, self._positions_key, self._kept_key, *request_keys],
                    [len(updates), int(KEY_SECONDS), len(request_keys), *arguments],
                )
                if status == _REPEATED:
                    raise RepeatedKeyError
                if status == _DONE:
                    return self._saw(int(value))
        raise ChangeLogError(
            f"{self._name} was not written, because other servers changed the same items during"
            f" each of {_ATTEMPTS} attempts; send the request again"
        )

    def seen(self, keys: Sequence[str]) -> set[str]:
        """See ``ChangeLog``."""
        if not keys:
            return set()
        with self._explained():
            found = self._client.mget([self._request_key + key for key in keys])
        return {key for key, value in zip(keys, found, strict=True) if value is not None}

    def read(self, after: int, limit: int) -> list[Entry]:
        """See ``ChangeLog``."""
        with self._explained():
            return self._entries(self._positions_key, after, "+inf", limit)

    def kept(self, through: int) -> list[Entry]:
        """See ``ChangeLog``."""
        entries: list[Entry] = []
        after = 0
        with self._explained():
            # An entry that changes between two parts moves past ``through``, where readers find it.
            while part := self._entries(self._kept_key, after, through, _AT_ONCE):
                entries += part
                after = part[-1].position
        return entries

    def last(self) -> int:
        """See ``ChangeLog``."""
        seen_position = self._seen_position
        with self._explained():
            identity, position = self._client.hmget(self._last_key, _IDENTITY, _POSITION)
            if identity != self.identity or int(position) < seen_position:
                raise self._lost()
            return self._saw(int(position))

    def truncate(self, through: int) -> int:
        """See ``ChangeLog``."""
        dropped, after = 0, 0
        with self._explained():
            while True:
                _, (number, after) = self._run(
                    self._drop,
                    [self._changes_key, self._positions_key, self._kept_key],
                    [after, through, _AT_ONCE],
                )
                dropped += number
                if not after:
                    return dropped

    def close(self) -> None:
        """See ``ChangeLog``."""
        self._client.close()

    def _entries(self, index: str, after: int, through: int | str, limit: int) -> list[Entry]:
        _, found = self._run(
            self._read, [self._changes_key, index], [after, through, limit], read_through=after
        )
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [Entry(int(at), item, Change.from_json(text)) for item, at, text in rows]

    def _run(
        self, script: Any, keys: list[str], arguments: list[Any], read_through: int = 0
    ) -> tuple[str, Any]:
        """Runs a script, which first checks that the log is still the one that was opened.

        Args:
          script: The script.
          keys: The script's keys after the first one.
          arguments: The script's arguments after the second one.
          read_through: A position that the caller has seen, perhaps before its last restart.

        Returns:
          The script's status and value.

        Raises:
          ChangeLogError: if the log has another identity, or ends before a position that was seen.
        """
        known = [self.identity, max(self._seen_position, read_through)]
        status, value = script([self._last_key, *keys], [*known, *arguments])
        if status == _LOST:
            raise self._lost()
        return status, value

    def _saw(self, position: int) -> int:
        self._seen_position = max(self._seen_position, position)
        return position

    def _warn_of_losses(self) -> None:
        problems = self._possible_losses()
        if problems:
            _log.warning(
                "acknowledged changes can be lost",
                extra={"log": self._shown, "error": "; ".join(problems)},
            )

    def _possible_losses(self) -> list[str]:
        """Returns why the server may lose acknowledged changes, as far as its settings show."""
        # WAITAOF does not help unless appendfsync is always: Valkey 8.1.8, with everysec and no
        # replicas, confirmed 200 successive writes with only two syncs to disk.
        persistence = self._told(self._client.info, "persistence")
        memory = self._told(self._client.info, "memory")
        settings = self._told(self._client.config_get, "appendfsync")
        problems = []
        if not persistence:
            problems.append("the server does not tell whether it writes them to disk (INFO)")
        elif not persistence.get("aof_enabled"):
            problems.append("set appendonly yes: without it, a restart loses the latest changes")
        elif settings.get("appendfsync", "always") != "always":
            problems.append(
                "set appendfsync always: with"
                f" {settings['appendfsync']}, a power failure loses the latest changes"
            )
        if str(memory.get("maxmemory_policy", "")).startswith("allkeys"):
            problems.append(
                "set maxmemory-policy noeviction: with"
                f" {memory['maxmemory_policy']}, changes are dropped when the memory is full"
            )
        return problems

    def _told(self, ask: Any, what: str) -> dict[str, Any]:
        """Returns the server's answer, or an empty one if the server refuses the command."""
        import redis

        try:
            return ask(what)
        except redis.ResponseError:
            return {}

    def _lost(self) -> ChangeLogError:
        return ChangeLogError(
            f"{self._name} is not the one that was read before, or ends earlier: the server has"
            " lost changes that it had acknowledged. Restore its data, or remove the keys of this"
            " log and send the lost changes again; then restart the servers that use the log"
        )

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return _explained(self._name)


def logged_models(location: str) -> list[str]:
    """Returns the names of the models that have a log on a server.

    Args:
      location: See ``RedisLocation``.

    Raises:
      RedisLocationError: if ``location`` is not a valid location, or the Python package redis is
        not installed.
      ChangeLogError: if the server cannot be used.
    """
    parsed = RedisLocation.parse(location)
    client: Any = connect(parsed)
    before, _, after = _base("*").partition("*")
    with contextlib.closing(client), _explained(parsed.shown):
        keys = list(client.scan_iter(f"{before}*{after}{_LAST}"))
    return [key.removeprefix(before).removesuffix(after + _LAST) for key in keys]


def _base(model: str) -> str:
    """Returns the prefix of a log's keys; the braces keep them in one slot of a cluster."""
    return f"mind:changes:{{{model}}}"


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns errors of redis-py into a ``ChangeLogError`` that names what cannot be used."""
    try:
        yield
    except errors() as e:
        raise ChangeLogError(
            f"{name} cannot be used ({str(e) or type(e).__name__}); check that the server runs,"
            " answers, and lets this user read and write its keys"
        ) from e


def _changed(
    updates: Sequence[tuple[str, Update]], before: dict[str, str | None]
) -> list[str | int]:
    """Computes the new change of each item, as arguments of the script that writes.

    Args:
      updates: As for ``append``.
      before: The change of each item that is in the log, as JSON; None if there is none.

    Returns:
      Five values for each item: its id, its change in the log or "", its new change, the number of
      updates that follow the item's last one, and whether ``truncate`` keeps the change (0 or 1).
    """
    now = {item: Change.from_json(text) for item, text in before.items() if text is not None}
    updates_after: dict[str, int] = {}
    for number, (item, update) in enumerate(updates, start=1):
        now[item] = update(now.get(item))
        updates_after[item] = len(updates) - number
    arguments: list[str | int] = []
    for item, text in before.items():
        change = now[item]
        arguments += [
            *(item, text or "", change.to_json()),
            *(updates_after[item], int(is_kept(change))),
        ]
    return arguments


# KEYS[1] holds the identity and the last position of the log; ARGV[1] and ARGV[2] are the identity
# and the largest position that the caller knows.
_CHECKED = """
local last = redis.call('HMGET', KEYS[1], 'identity', 'position')
if last[1] ~= ARGV[1] or tonumber(last[2]) < tonumber(ARGV[2]) then return {'lost', 0} end
"""
# KEYS: .., changes, positions, kept, keys of requests ...
# ARGV: .., number of updates, seconds, number of keys, and five values for each item.
_APPEND = (
    _CHECKED
    + """
for n = 5, 4 + ARGV[5] do
  if redis.call('EXISTS', KEYS[n]) == 1 then return {'repeated', 0} end
end
for n = 6, #ARGV, 5 do
  if (redis.call('HGET', KEYS[2], ARGV[n]) or '') ~= ARGV[n + 1] then return {'changed', 0} end
end
local position = redis.call('HINCRBY', KEYS[1], 'position', ARGV[3])
for n = 6, #ARGV, 5 do
  local item, at = ARGV[n], position - ARGV[n + 3]
  redis.call('HSET', KEYS[2], item, ARGV[n + 2])
  redis.call('ZADD', KEYS[3], at, item)
  if ARGV[n + 4] == '1' then
    redis.call('ZADD', KEYS[4], at, item)
  else
    redis.call('ZREM', KEYS[4], item)
  end
end
for n = 5, 4 + ARGV[5] do redis.call('SET', KEYS[n], '1', 'EX', ARGV[4]) end
return {'done', position}
"""
)
# KEYS: .., changes, positions or kept. ARGV: .., after, through, limit.
_READ = (
    _CHECKED
    + """
local found = redis.call(
  'ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[3], ARGV[4], 'WITHSCORES', 'LIMIT', 0, ARGV[5])
local entries = {}
for n = 1, #found, 2 do
  entries[#entries + 1] = found[n]
  entries[#entries + 1] = found[n + 1]
  entries[#entries + 1] = redis.call('HGET', KEYS[2], found[n])
end
return {'done', entries}
"""
)
# KEYS: .., changes, positions, kept. ARGV: .., after, through, limit. Returns the number of dropped
# entries and the last position examined, which is 0 if no entries are left to examine.
_DROP = (
    _CHECKED
    + """
local found = redis.call(
  'ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[3], ARGV[4], 'WITHSCORES', 'LIMIT', 0, ARGV[5])
local dropped, after = 0, 0
for n = 1, #found, 2 do
  after = tonumber(found[n + 1])
  if not redis.call('ZSCORE', KEYS[4], found[n]) then
    redis.call('ZREM', KEYS[3], found[n])
    redis.call('HDEL', KEYS[2], found[n])
    dropped = dropped + 1
  end
end
return {'done', {dropped, after}}
"""
)
