"""The store against plain Python, and what an erasure leaves in its files."""

import os
import random
import re
import sqlite3
import threading

import pytest

from contract.histories import NOBODY, Event, Person, Profile, Reported, Retention
from contract.history_store import (
    Batch,
    Hashes,
    HistoryStoreError,
    Outcome,
    open_store,
)
from contract.redis_history_store import RedisHistoryStore
from contract.sqlite_history_store import SqliteHistoryStore
from tests.redis_server import RedisServer

_DAY = 86_400
_MAX_EVENTS = 5
_NOW = 100 * _DAY


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = float(_NOW)

    def __call__(self):
        return self.now


class Oracle:
    """What a store must answer, from all that was ever done to it, done again for each answer."""

    def __init__(self, retention, clock):
        self._retention = retention
        self._clock = clock
        self._done = []  # time, person, and what was reported; nothing is an erasure
        self._keys = {}

    def add(self, batch):
        if self._clock() - self._keys.get(batch.key, -1e9) <= _DAY:
            return Outcome(0, True)
        if batch.key:
            self._keys[batch.key] = self._clock()
        before = {user: self.read(user).events for user in batch.reports}
        for user, report in batch.reports.items():
            self._done.append((self._clock(), user, report))
        after = {user: self.read(user).events for user in batch.reports}
        return Outcome(sum(len(set(after[user]) - set(before[user])) for user in after))

    def erase(self, user):
        self._done.append((self._clock(), user, None))

    def read(self, user):
        person, erased = NOBODY, 0
        for now, who, report in self._done:
            if who != user:
                continue
            if report is None:
                person, erased = NOBODY, int(now)
                continue
            events, profile = self._kept(person, now)
            for event in report.events:
                is_full = len(events) == self._retention.max_events
                is_late = is_full and event.time <= events[0].time
                if event in events or is_late or event.time <= erased:
                    continue
                if event.time >= now - self._retention.days * _DAY:
                    events.append(event)
                    events.sort(key=lambda event: event.time)
                    events = events[-self._retention.max_events :]
            if report.profile.time > erased and report.profile.time >= profile.time:
                profile = report.profile
            person = Person(tuple(events), profile)
        events, profile = self._kept(person, self._clock())
        return Person(tuple(events), profile)

    def _kept(self, person, now):
        since = now - self._retention.days * _DAY
        events = [event for event in person.events if event.time >= since]
        return events, person.profile if person.profile.time >= since else Profile(0, {})


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def opened_file(tmp_path, clock):
    """Opens the same file any number of times."""
    stores = []

    def open_again(days=30.0, max_events=_MAX_EVENTS, sync="normal"):
        path = tmp_path / "mind.histories.sqlite"
        stores.append(SqliteHistoryStore(path, Retention(max_events, days), sync, clock))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture(params=["file", pytest.param("server", marks=pytest.mark.slow)])
def opened(request, clock):
    """Opens the same store any number of times."""
    if request.param == "file":
        yield request.getfixturevalue("opened_file")
        return
    location = request.getfixturevalue("redis_server").location
    model = request.node.name
    stores = []

    def open_again(days=30.0, max_events=_MAX_EVENTS):
        stores.append(RedisHistoryStore(location, model, Retention(max_events, days), clock))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def _report(*events, profile=None):
    return Reported([Event(*event) for event in events], profile or Profile(0, {}))


def test_any_interleaving_gives_what_the_oracle_gives(opened, clock):
    rng = random.Random(5)
    stores = [opened(days=4.0), opened(days=4.0)]
    oracle = Oracle(Retention(_MAX_EVENTS, 4.0), clock)
    users = [f"u{number}" for number in range(6)]
    seen = {"repeated": 0, "new": 0, "none": 0, "erased": 0, "purged": 0}
    for step in range(200):
        store = rng.choice(stores)
        clock.now += rng.choice([0, 0.4, 3600, _DAY])
        what = rng.random()
        if what < 0.75:
            reports = {}
            for user in rng.sample(users, rng.randint(1, 3)):
                # Older, newer, of the same second and again.
                ages = rng.choices([0, 1, 2, _DAY, 3 * _DAY, 5 * _DAY], k=rng.randint(0, 4))
                events = [(int(clock.now) - age, f"i{rng.randint(0, 3)}") for age in ages]
                profile = Profile(int(clock.now) - rng.randint(0, 3), {"age": str(step)})
                reports[user] = _report(*events, profile=rng.choice([profile, None]))
            batch = Batch(reports, rng.choice(["", "", f"key-{rng.randint(0, 5)}"]))
            outcome = oracle.add(batch)
            assert store.add([batch]) == [outcome]
            kind = "repeated" if outcome.is_repeated else "new" if outcome.events else "none"
            seen[kind] += 1
        elif what < 0.85:
            user = rng.choice(users)
            # What has expired and is not removed yet counts as well.
            assert store.erase([user]) >= bool(oracle.read(user))
            oracle.erase(user)
            seen["erased"] += 1
        else:
            seen["purged"] += store.purge(1000)
        found = rng.choice(stores).read([*users, "nobody"])
        assert found == [*map(oracle.read, users), NOBODY]
    assert min(seen.values()) > 5, seen


def test_a_batch_is_written_whole_or_not_at_all(opened):
    store = opened()
    with pytest.raises(AttributeError):
        store.add([Batch({"u": _report((_NOW, "i")), "v": None}, "key")])
    assert store.read(["u"]) == [NOBODY]
    batch = Batch({"u": _report((_NOW, "i"))}, "key")
    assert store.add([batch, batch]) == [Outcome(1), Outcome(0, True)]


def test_expired_events_are_not_answered_with_and_then_removed(opened, clock):
    store, keeping = opened(days=2.0), opened(days=0.0)
    reports = {f"u{n}": _report((_NOW - n * 3600, "i"), (_NOW, "j")) for n in range(1, 4)}
    store.add([Batch(reports)])
    store.add([Batch({"w": _report(profile=Profile(_NOW, {"age": "7"}))})])
    clock.now += 2 * _DAY - 2 * 3600
    assert [len(p.events) for p in store.read(["u1", "u2", "u3", "w"])] == [2, 2, 1, 0]
    assert [len(p.events) for p in keeping.read(["u1", "u2", "u3"])] == [2, 2, 2]
    assert [store.purge(10), store.purge(10)] == [1, 0]
    assert [len(p.events) for p in keeping.read(["u1", "u2", "u3"])] == [2, 2, 1]
    clock.now += 3 * 3600
    assert store.read(["u1", "u2", "u3", "w"]) == [NOBODY] * 4
    assert (store.count(), store.purge(3), store.purge(3), store.count()) == (4, 3, 1, 0)


def test_an_erased_person_stays_erased_until_something_new_happens(opened, clock):
    store = opened()
    old = {"u": _report((_NOW - 5, "i"), (_NOW, "j"), profile=Profile(_NOW, {"age": "7"}))}
    store.add([Batch(old)])
    assert store.erase(["u", "v"]) == 1
    for again in (store, opened()):
        assert again.add([Batch(old)]) == [Outcome(0)]
        assert again.read(["u"]) == [NOBODY]
    assert store.add([Batch({"u": _report((_NOW + 1, "k"))})]) == [Outcome(1)]
    assert store.read(["u"])[0].events == (Event(_NOW + 1, "k"),)


def test_what_is_known_of_an_erasure_goes_when_the_events_would_have_expired(
    opened_file, clock, tmp_path
):
    store = opened_file(days=2.0)
    store.erase(["u"])
    with sqlite3.connect(tmp_path / "mind.histories.sqlite") as database:
        count = "SELECT COUNT(*) FROM erased"
        clock.now += 2 * _DAY - 1
        store.purge(1)
        assert database.execute(count).fetchone() == (1,)
        clock.now += 2
        store.purge(1)
        assert database.execute(count).fetchone() == (0,)


@pytest.mark.parametrize("seed", [4, 40, 46])
def test_no_file_names_anybody_and_nothing_of_an_erased_person_is_left(
    opened_file, tmp_path, monkeypatch, seed
):
    """These seeds leave copies of cells in split pages, which secure_delete does not overwrite."""
    monkeypatch.setattr(Hashes, "new_secret", lambda: bytes(32))
    rng = random.Random(seed)
    store, reader = opened_file(max_events=200, days=0.0), opened_file(max_events=200, days=0.0)
    people = [f"{number:05}" for number in range(600)]

    def files():
        return b"".join(path.read_bytes() for path in tmp_path.iterdir())

    written = set()
    for size in (3, 20, 80, 200):
        some = rng.sample(people, 60)
        reports = {
            f"person-{who}": _report(
                *[(rng.randint(1, 999_999), f"item-of-{who}") for _ in range(rng.randint(1, size))]
            )
            for who in some
        }
        store.add([Batch(reports, f"person-key-{size}")])
        written.update(some)
    assert len(list(tmp_path.iterdir())) == 3  # the write-ahead log and its index
    assert b"person-" not in files()
    erased = set(rng.sample(people, 60))
    # Items name their person here.
    held = re.compile(rb"item-of-([0-9]{5})")
    assert {name.decode() for name in held.findall(files())} == written
    assert all(reader.read([f"person-{who}" for who in sorted(written)]))
    assert store.erase([f"person-{who}" for who in sorted(erased)]) == len(erased & written) > 10
    assert {name.decode() for name in held.findall(files())} == written - erased
    found = reader.read([f"person-{who}" for who in sorted(written)])
    assert [bool(person) for person in found] == [who not in erased for who in sorted(written)]


def test_an_erasure_that_a_reader_keeps_from_being_complete_says_so(
    opened_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("contract.sqlite_file.BUSY_SECONDS", 0.01)
    store = opened_file()
    store.add([Batch({"u": _report((_NOW, "i"))})])
    other = sqlite3.connect(tmp_path / "mind.histories.sqlite", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM people").fetchall()
    with pytest.raises(HistoryStoreError, match="repeat the erasure"):
        store.erase(["u"])
    assert store.read(["u"]) == [NOBODY]
    other.close()
    assert store.erase(["u"]) == 0


def test_only_the_owner_can_read_the_files(opened_file, tmp_path):
    opened_file().add([Batch({"u": _report((_NOW, "i"))})])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_many_threads_write_and_read(opened):
    store = opened(max_events=100, days=0.0)

    def work(number):
        for step in range(20):
            store.add(
                [Batch({"u": _report((1 + step, f"i{number}")), f"u{number}": _report((1, "i"))})]
            )
            assert store.read([f"u{number}"])[0].events == (Event(1, "i"),)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.read(["u"])[0].events) == 80


def test_more_people_than_one_statement_takes(opened):
    store = opened()
    users = [f"u{number}" for number in range(1200)]
    store.add([Batch({user: _report((_NOW, user)) for user in users[::2]})])
    found = store.read(users)
    assert [bool(person) for person in found] == [True, False] * 600
    assert all(
        person.events[0].item_id == user
        for person, user in zip(found[::2], users[::2], strict=True)
    )


def test_what_cannot_be_used_is_explained(tmp_path, opened_file):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(HistoryStoreError, match="File exists"):
        open_store(str(file), "mind", Retention())
    (tmp_path / "mind.histories.sqlite").write_text("no database" * 100)
    with pytest.raises(HistoryStoreError, match="not a database"):
        open_store(str(tmp_path), "mind", Retention())
    with pytest.raises(HistoryStoreError, match=r"has those of mind\. Name the model"):
        open_store(str(tmp_path), "mnid", Retention(), is_new=False)
    os.unlink(tmp_path / "mind.histories.sqlite")
    store = opened_file()
    store._database.execute("PRAGMA user_version = 2")
    with pytest.raises(HistoryStoreError, match="format 2; this program reads format 1"):
        opened_file()


@pytest.mark.slow
def test_a_server_names_nobody_and_forgets_whom_it_is_told_to(redis_server, clock):
    store = RedisHistoryStore(redis_server.location, "names", Retention(5, 2.0), clock)
    reports = {"person-1": _report((_NOW, "i")), "person-2": _report((_NOW, "i"))}
    store.add([Batch(reports, "key-1")])
    client = redis_server.client()
    keys = set(client.scan_iter("mind:histories:{names}:*"))
    assert len(keys) == 5
    members = [*client.zrange("mind:histories:{names}:oldest", 0, -1)]
    members += client.zrange("mind:histories:{names}:keys", 0, -1)
    assert not [text for text in [*keys, *members] if "person-" in text or "key-1" in text]
    assert store.erase(["person-1"]) == 1
    assert client.zcard("mind:histories:{names}:erased") == 1
    clock.now += 2 * _DAY + 1
    assert (store.purge(10), store.purge(10), store.count()) == (1, 0, 0)
    left = {"mind:histories:{names}:secret", "mind:histories:{names}:keys"}
    assert set(client.scan_iter("mind:histories:{names}:*")) == left


@pytest.mark.slow
def test_a_server_keeps_what_it_acknowledged_and_says_when_it_is_away(tmp_path, clock):
    with RedisServer(tmp_path / "redis") as server:
        store = RedisHistoryStore(server.location, "mind", Retention(), clock)
        store.add([Batch({"u": _report((_NOW, "i"))})])
        with pytest.raises(HistoryStoreError, match="no histories of a model 'mnid'"):
            open_store(server.location, "mnid", Retention(), is_new=False)
        server.kill()
        for use in (lambda: store.read(["u"]), lambda: store.erase(["u"]), lambda: store.purge(1)):
            with pytest.raises(HistoryStoreError, match=r"cannot be used .*check that the server"):
                use()
        server.start()
        assert store.read(["u"])[0].events == (Event(_NOW, "i"),)
