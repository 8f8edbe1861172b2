"""What every log of changes must do, asked of the one in a file and of the one in a server."""

import contextlib
import itertools
import sqlite3
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.catalogue_changes import REMOVAL, Change
from contract.change_log import (
    KEY_SECONDS,
    ChangeLogError,
    Entry,
    RepeatedKeyError,
    SqliteChangeLog,
    open_log,
)
from tests.redis_server import RedisServer

_AWAY = Change(in_stock=False)


class _SqliteLogs:
    """Logs in files of a folder."""

    def __init__(self, folder):
        self._folder = folder
        self.now = 1000.0

    def open(self, name):
        return SqliteChangeLog(self._folder / f"{name}.sqlite", clock=lambda: self.now)

    def forget_keys(self):
        self.now += KEY_SECONDS + 1


class _RedisLogs:
    """Logs in a real server."""

    def __init__(self, server):
        self._location = server.location
        self._client = server.client()

    def open(self, name):
        return open_log(self._location, name)

    def forget_keys(self):
        keys = list(self._client.scan_iter("mind:changes:*:request:*"))
        for key in keys:
            assert 0 < self._client.ttl(key) <= KEY_SECONDS
            self._client.pexpire(key, 0)
        assert keys


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["file", pytest.param("server", marks=pytest.mark.slow)])
def logs(request, tmp_path_factory):
    if request.param == "file":
        return _SqliteLogs(tmp_path_factory.mktemp("logs"))
    return _RedisLogs(request.getfixturevalue("redis_server"))


_numbers = itertools.count()


@contextlib.contextmanager
def _opened(logs, number=1):
    """``number`` connections to one new log."""
    name = f"model{next(_numbers)}"
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(logs.open(name))) for _ in range(number)]


@pytest.fixture
def log(logs):
    with _opened(logs) as (opened,):
        yield opened


def _set(title):
    return lambda before: Change(title=title)


def _add(text):
    """An update that shows what was there before."""
    return lambda before: Change(title=((before and before.title) or "") + text)


def test_a_new_log_is_empty(log):
    assert (log.last(), log.read(0, 10), log.kept(10), log.seen(["a"])) == (0, [], [], set())


def test_an_update_sees_the_change_before_it(log):
    assert log.append([("x", _add("1")), ("y", _add("2")), ("x", _add("3"))]) == 3
    assert log.append([("x", _add("4"))]) == 4
    assert log.read(0, 10) == [
        Entry(2, "y", Change(title="2")),
        Entry(4, "x", Change(title="134")),
    ]
    assert log.last() == 4


def test_everything_of_a_change_comes_back(log):
    changes = {
        "é \n {x}": Change("Größe", {"point": 1.5, "genre": ("a", "b"), "none": ()}),
        "0": Change(in_stock=False, title=""),
        "gone": REMOVAL,
        "as pushed": Change(),
    }
    log.append([(item, lambda _, c=change: c) for item, change in changes.items()])
    assert {entry.item_id: entry.change for entry in log.read(0, 10)} == changes


def test_entries_are_read_in_parts_by_position(log):
    log.append([(item, _set("1")) for item in "abcde"])
    log.append([("b", _set("2"))])
    assert [(e.position, e.item_id) for e in log.read(0, 2)] == [(1, "a"), (3, "c")]
    assert [(e.position, e.item_id) for e in log.read(3, 2)] == [(4, "d"), (5, "e")]
    assert [(e.position, e.item_id) for e in log.read(5, 2)] == [(6, "b")]
    assert log.read(6, 2) == []


def test_of_a_group_that_fails_nothing_is_written(log):
    log.append([("x", _set("1"))])

    def fail(before):
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        log.append([("y", _set("2")), ("x", fail)], ["key"])
    assert log.read(0, 10) == [Entry(1, "x", Change(title="1"))]
    assert (log.last(), log.seen(["key"])) == (1, set())


def test_a_key_is_remembered_for_a_day(logs):
    with _opened(logs, 2) as (log, other):
        log.append([("x", _set("1"))], ["a", "b"])
        assert other.seen(["a", "b", "c"]) == {"a", "b"}
        with pytest.raises(RepeatedKeyError):
            other.append([("x", _set("2"))], ["c", "b"])
        assert (log.last(), log.seen(["c"])) == (1, set())
        logs.forget_keys()
        assert log.seen(["a", "b"]) == set()
        assert other.append([("x", _set("2"))], ["b"]) == 2
        assert log.seen(["a", "b"]) == {"b"}


def test_truncating_leaves_what_is_out_of_stock_and_what_came_later(log):
    log.append([("a", _set("1")), ("b", lambda _: _AWAY), ("c", lambda _: REMOVAL)])
    log.append([("d", _set("4")), ("e", lambda _: _AWAY)])
    assert log.truncate(4) == 3
    away = [Entry(2, "b", _AWAY), Entry(5, "e", _AWAY)]
    assert log.read(0, 10) == away
    assert (log.kept(4), log.kept(5), log.kept(1)) == (away[:1], away, [])
    # Back in stock: a version that has the item needs no more to be told.
    log.append([("b", lambda before: Change())])
    assert log.kept(6) == away[1:]
    assert log.truncate(6) == 1
    assert (log.read(0, 10), log.last()) == (away[1:], 6)
    # An entry that is dropped is not there any more for the next update.
    assert log.append([("a", _add("new"))]) == 7
    assert log.read(6, 10) == [Entry(7, "a", Change(title="new"))]
    assert log.truncate(0) == 0


def test_a_log_that_ends_before_what_was_read_is_refused(log):
    """A version may contain more than a log that comes from a backup."""
    log.append([("x", _set("1"))])
    assert log.read(1, 10) == []
    with pytest.raises(ChangeLogError, match="Restore"):
        log.read(2, 10)


def test_logs_are_told_apart(logs):
    with _opened(logs) as (one,), _opened(logs, 2) as (two, again):
        one.append([("x", _set("1"))], ["key"])
        assert (two.last(), two.read(0, 10), two.seen(["key"])) == (0, [], set())
        assert one.identity != two.identity == again.identity
        assert len(one.identity) == 32


def test_everything_is_there_when_it_is_opened_again(logs):
    name = f"model{next(_numbers)}"
    with contextlib.closing(logs.open(name)) as log:
        log.append([("x", _add("1")), ("y", lambda _: _AWAY)], ["key"])
        identity = log.identity
    with contextlib.closing(logs.open(name)) as log:
        assert (log.identity, log.last(), log.seen(["key"])) == (identity, 2, {"key"})
        assert log.kept(2) == [Entry(2, "y", _AWAY)]
        log.append([("x", _add("2"))])
        assert log.read(2, 10) == [Entry(3, "x", Change(title="12"))]


def test_no_update_is_lost_between_writers_and_no_position_is_passed(logs):
    """Four writers add to the same few items, while a reader follows."""
    writers, groups, items = 4, 25, ["a", "b", "c"]
    with _opened(logs, writers + 1) as (*opened, reader):
        ready = threading.Barrier(writers + 1)
        problems = []

        def write(log, number):
            try:
                ready.wait()
                for group in range(groups):
                    # Each in an order of its own, twice the same.
                    order = items[number % 3 :] + items[: number % 3] + ["a"]
                    log.append([(item, _add(f" {number}.{group}")) for item in order])
            except BaseException as e:
                problems.append(e)

        threads = [
            threading.Thread(target=write, args=[log, number]) for number, log in enumerate(opened)
        ]
        for thread in threads:
            thread.start()
        followed, position = {}, 0
        ready.wait()
        while any(thread.is_alive() for thread in threads) or position < reader.last():
            for entry in reader.read(position, 2):
                assert entry.position > position
                position = entry.position
                followed[entry.item_id] = entry.change
        for thread in threads:
            thread.join()
        assert not problems
        assert reader.last() == writers * groups * 4
        for item in items:
            texts = followed[item].title.split()
            expected = [f"{n}.{g}" for n in range(writers) for g in range(groups)]
            assert sorted(texts) == sorted(expected * (1 + (item == "a")))
            for number in range(writers):  # each writer's own in its order
                own = [int(text.split(".")[1]) for text in texts if text[0] == str(number)]
                assert own == sorted(own)


_items = st.sampled_from("abcde")
_changes = st.sampled_from(["add", "remove", "hide", "show"])
_operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.lists(st.tuples(_items, _changes), max_size=6),
            st.lists(st.sampled_from("pqr"), max_size=2, unique=True),
        ),
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("truncate"), st.integers(0, 30)),
        st.tuples(st.just("kept"), st.integers(0, 30)),
    ),
    max_size=15,
)


def _update(kind, text):
    if kind == "remove":
        return lambda before: REMOVAL
    if kind == "add":
        return _add(text)
    return lambda before: Change(before.title if before else None, in_stock=kind == "show")


class _Oracle:
    """A log as plain dictionaries."""

    def __init__(self):
        self.entries, self.position, self.keys = {}, 0, set()

    def append(self, updates):
        for item, update in updates:
            before = self.entries.get(item)
            self.position += 1
            self.entries[item] = Entry(self.position, item, update(before and before.change))

    def sorted(self):
        return sorted(self.entries.values())

    def kept(self, through):
        return [
            entry
            for entry in self.sorted()
            if entry.position <= through
            and not entry.change.in_stock
            and not entry.change.is_removed
        ]


@given(st.lists(st.tuples(st.integers(0, 1), _operations), max_size=4))
@settings(max_examples=60)
def test_two_clients_in_any_order_are_one_dictionary(logs, turns):
    oracle, numbers = _Oracle(), itertools.count()
    with _opened(logs, 2) as clients:
        cursors, states = [0, 0], [{}, {}]
        for client, operations in turns:
            log = clients[client]
            for name, *arguments in operations:
                if name == "append":
                    pairs, keys = arguments
                    updates = [(item, _update(kind, f" {next(numbers)}")) for item, kind in pairs]
                    assert log.seen(keys) == oracle.keys & set(keys)
                    if oracle.keys & set(keys):
                        with pytest.raises(RepeatedKeyError):
                            log.append(updates, keys)
                        continue
                    oracle.append(updates)
                    oracle.keys |= set(keys)
                    assert log.append(updates, keys) == oracle.position
                elif name == "read":
                    expected = [e for e in oracle.sorted() if e.position > cursors[client]]
                    found = log.read(cursors[client], arguments[0])
                    assert found == expected[: arguments[0]]
                    for entry in found:
                        cursors[client] = entry.position
                        states[client][entry.item_id] = entry.change
                elif name == "kept":
                    assert log.kept(arguments[0]) == oracle.kept(arguments[0])
                else:
                    # What a reader has not seen is never dropped: no version contains it.
                    through = min(arguments[0], *cursors)
                    kept = oracle.kept(through)
                    dropped = {e.item_id for e in oracle.sorted() if e.position <= through}
                    dropped -= {entry.item_id for entry in kept}
                    assert log.truncate(through) == len(dropped)
                    for item in dropped:
                        del oracle.entries[item]
                assert log.last() == oracle.position
        for client, log in enumerate(clients):
            for entry in log.read(cursors[client], 100):
                states[client][entry.item_id] = entry.change
            assert (
                oracle.entries.items()
                <= {item: oracle.entries.get(item) for item in states[client]}.items()
            )
            for item, entry in oracle.entries.items():
                assert states[client][item] == entry.change


def test_a_file_of_a_later_format_is_refused(tmp_path):
    path = tmp_path / "x.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(ChangeLogError, match="of format 9; this program reads format 1"):
        SqliteChangeLog(path)


def test_a_directory_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ChangeLogError, match=r"cannot be used \(.*irectory"):
        open_log(str(tmp_path / "file"), "mind")
