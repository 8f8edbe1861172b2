"""A log of changes in a Redis or Valkey server, for servers on several machines.

What is written, and what is read at once, is one Lua script, which the server runs alone: a
position is given and its change is there at the same moment, so a reader never passes a position
that comes later. Update functions are Python and run here. The script that writes compares what
they were given with what is there, and writes nothing if another writer was faster; then they run
again.
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
# Each time, another writer has changed one of the same items.
_ATTEMPTS: Final = 100
# Entries that one script reads or drops: the server does nothing else meanwhile.
_AT_ONCE: Final = 8192

# Fields of the hash that says how far the log is.
_IDENTITY: Final = "identity"
_POSITION: Final = "position"
_VERSION: Final = "format"

# The key of that hash, after what all keys of the log begin with.
_LAST: Final = ":last"

# What scripts say.
_DONE, _LOST, _REPEATED, _CHANGED = "done", "lost", "repeated", "changed"


class RedisChangeLog:
    """A log in a Redis or Valkey server; see ``ChangeLog``.

    Its keys begin with ``mind:changes:{MODEL}``: how far the log is (a hash), the changes by item
    (a hash), the positions of the items (a sorted set), those that are kept (a sorted set), and
    a string for each remembered key of a request.

    If the server loses what it had acknowledged, because it restarts without it or is replaced by
    a copy that lags, positions begin to mean something else. Every operation compares the log
    with what was seen of it, and fails if it went back.

    Attributes:
      identity: See ``ChangeLog``.
    """

    def __init__(self, location: str, model: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Opens the log; makes it if there is none.

        Args:
          location: See ``RedisLocation``.
          model: Name of the model.
          answer_seconds: Longest time to wait for an answer.

        Raises:
          RedisLocationError: it is no such location, or the library is not installed.
          ChangeLogError: the server cannot be used, or the log is of another format.
        """
        parsed = RedisLocation.parse(location)
        self._shown = parsed.shown
        # Not by its own types, which do not know that answers are decoded.
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
        # The largest position that was seen.
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
                    " Use the program that wrote it"
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
            f"{self._name} was not written, because others changed the same items {_ATTEMPTS}"
            " times meanwhile; send the request again"
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
            # One that is changed between two parts is found by whoever reads after ``through``.
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
        """Runs a script if the log is still the one that was opened; returns what it says.

        Args:
          script: Which.
          keys: Its keys after the first.
          arguments: Its arguments after the second.
          read_through: A position that the caller has seen, perhaps before it was started again.
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
        """Why the server may lose what it has acknowledged, as far as it tells."""
        # WAITAOF would be no help with another appendfsync than always: Valkey 8.1.8, with everysec
        # and no replicas, confirmed 200 writes one after the other with two syncs.
        persistence = self._told(self._client.info, "persistence")
        memory = self._told(self._client.info, "memory")
        settings = self._told(self._client.config_get, "appendfsync")
        problems = []
        if not persistence:
            problems.append("the server does not tell whether it keeps them on disk (INFO)")
        elif not persistence.get("aof_enabled"):
            problems.append("set appendonly yes: without it, a restart loses the latest changes")
        elif settings.get("appendfsync", "always") != "always":
            problems.append(
                "set appendfsync always: with"
                f" {settings['appendfsync']}, a loss of power loses the latest changes"
            )
        if str(memory.get("maxmemory_policy", "")).startswith("allkeys"):
            problems.append(
                "set maxmemory-policy noeviction: with"
                f" {memory['maxmemory_policy']}, changes are dropped when the memory is full"
            )
        return problems

    def _told(self, ask: Any, what: str) -> dict[str, Any]:
        """The answer of the server; empty if it may not be asked."""
        import redis

        try:
            return ask(what)
        except redis.ResponseError:
            return {}

    def _lost(self) -> ChangeLogError:
        return ChangeLogError(
            f"{self._name} is not the one that was read before, or ends earlier: the server has"
            " lost changes that it had acknowledged. Restore its data, or remove the keys of this"
            " log and send the lost changes again; then restart what uses it"
        )

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return _explained(self._name)


def logged_models(location: str) -> list[str]:
    """Names of the models of which a server has logs.

    Raises:
      RedisLocationError: it is no such location, or the library is not installed.
      ChangeLogError: the server cannot be used.
    """
    parsed = RedisLocation.parse(location)
    client: Any = connect(parsed)
    before, _, after = _base("*").partition("*")
    with contextlib.closing(client), _explained(parsed.shown):
        keys = list(client.scan_iter(f"{before}*{after}{_LAST}"))
    return [key.removeprefix(before).removesuffix(after + _LAST) for key in keys]


def _base(model: str) -> str:
    """What the keys of a log begin with; braces keep them together in a cluster."""
    return f"mind:changes:{{{model}}}"


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Says of what the errors of the library are."""
    try:
        yield
    except errors() as e:
        raise ChangeLogError(
            f"{name} cannot be used ({str(e) or type(e).__name__}); the server must run, answer,"
            " and let this user read and write its keys"
        ) from e


def _changed(
    updates: Sequence[tuple[str, Update]], before: dict[str, str | None]
) -> list[str | int]:
    """Makes the changes.

    Args:
      updates: As of ``append``.
      before: What is there of each item, as JSON.

    Returns:
      For each item: its id, what was there or "", what is to be there, how many updates come
      after its last one, and whether the change is kept.
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


# KEYS[1] says how far the log is; ARGV[1] and ARGV[2] are what the caller knows of that.
_CHECKED = """
local last = redis.call('HMGET', KEYS[1], 'identity', 'position')
if last[1] ~= ARGV[1] or tonumber(last[2]) < tonumber(ARGV[2]) then return {'lost', 0} end
"""
# KEYS: .., changes, positions, kept, keys of requests ...
# ARGV: .., number of updates, seconds, number of keys, and five for each item.
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
# KEYS: .., changes, positions, kept. ARGV: .., after, through, limit. Returns how many were
# dropped, and the last position that was looked at; 0 after the last of all.
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
