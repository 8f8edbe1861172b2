"""What only a log in a server can meet: losses, hanging, passwords, and writers that are faster."""

import contextlib
import logging
import socket
import subprocess

import pytest

from contract.catalogue_changes import Change
from contract.change_log import ChangeLogError, Entry, open_log
from contract.redis_change_log import RedisChangeLog
from tests.redis_server import RedisServer

pytestmark = pytest.mark.slow

_SECRET = "s3cret-password"


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def log(server):
    with contextlib.closing(open_log(server.location, "mind")) as opened:
        yield opened


def _add(text):
    return lambda before: Change(title=(before.title if before else "") + text)


def test_an_update_runs_again_if_another_writer_was_faster(server, log):
    with contextlib.closing(open_log(server.location, "mind")) as other:
        seen = []

        def update(before):
            seen.append(before and before.title)
            if len(seen) < 3:
                other.append([("x", _add(f"other{len(seen)} "))])
            return Change(title=(before.title if before else "") + "mine")

        assert log.append([("y", _add("y")), ("x", update)]) == 4
        assert seen == [None, "other1 ", "other1 other2 "]
        assert log.read(0, 10) == [
            Entry(3, "y", Change(title="y")),
            Entry(4, "x", Change(title="other1 other2 mine")),
        ]


def test_another_writer_of_other_items_is_no_reason_to_do_it_again(server, log):
    with contextlib.closing(open_log(server.location, "mind")) as other:
        runs = []

        def update(before):
            runs.append(other.append([("y", _add("."))]))
            return Change()

        assert log.append([("x", update)]) == 2
        assert runs == [1]


def test_a_writer_that_is_always_too_late_gives_up(server, log):
    with contextlib.closing(open_log(server.location, "mind")) as other:

        def update(before):
            other.append([("x", _add("."))])
            return Change(title="mine")

        with pytest.raises(ChangeLogError, match="each of 100 attempts; send the request again"):
            log.append([("x", update)])
        assert log.read(0, 10) == [Entry(100, "x", Change(title="." * 100))]


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(server, log):
    positions = [log.append([(f"i{number}", _add("x"))], [f"k{number}"]) for number in range(50)]
    server.kill()
    with pytest.raises(ChangeLogError, match="check that the server runs"):
        log.append([("late", _add("x"))])
    server.start()
    assert log.last() == positions[-1] == 50
    assert [entry.item_id for entry in log.read(0, 100)] == [f"i{n}" for n in range(50)]
    assert log.seen(["k49", "k50"]) == {"k49"}
    assert log.append([("late", _add("x"))]) == 51


def test_a_server_that_hangs_is_given_up(server):
    with contextlib.closing(RedisChangeLog(server.location, "mind", answer_seconds=0.2)) as log:
        log.append([("x", _add("1"))])
        server.hang()
        try:
            for ask in (
                log.last,
                lambda: log.read(0, 10),
                lambda: log.append([("x", _add("2"))]),
                lambda: RedisChangeLog(server.location, "mind", answer_seconds=0.2),
            ):
                with pytest.raises(ChangeLogError, match=r"cannot be used \(Timeout"):
                    ask()
        finally:
            server.go_on()
        assert log.read(0, 10)[0].change.title == "1"


def test_a_server_that_has_lost_the_log_is_noticed(server, log):
    log.append([("x", _add("1")), ("y", _add("2"))])
    log.read(0, 10)
    server.client().flushall()
    _assert_lost(log)
    with contextlib.closing(open_log(server.location, "mind")) as new:
        assert (new.last(), new.identity != log.identity) == (0, True)
        new.append([(str(number), _add("x")) for number in range(5)])
        _assert_lost(log)


def test_a_server_that_is_an_older_copy_is_noticed(server, log):
    log.append([("x", _add("1")), ("y", _add("2"))])
    server.client().hset("mind:changes:{mind}:last", "position", 1)
    _assert_lost(log)
    with contextlib.closing(open_log(server.location, "mind")) as new:
        assert new.last() == 1
        # A version contains two.
        with pytest.raises(ChangeLogError, match="lost changes that it had acknowledged"):
            new.read(2, 10)


def _assert_lost(log):
    for ask in (
        log.last,
        lambda: log.read(0, 10),
        lambda: log.kept(10),
        lambda: log.truncate(10),
        lambda: log.append([("x", _add("1"))]),
    ):
        with pytest.raises(ChangeLogError, match="lost changes that it had acknowledged"):
            ask()


def test_a_later_format_is_refused(server):
    server.client().hset("mind:changes:{mind}:last", "format", 9)
    with pytest.raises(ChangeLogError, match="is of format 9; this program reads format 1"):
        open_log(server.location, "mind")


def test_a_script_that_the_server_has_forgotten_is_sent_again(server, log):
    log.append([("x", _add("1"))])
    server.client().script_flush()
    assert log.append([("x", _add("2"))]) == 2


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ((), []),
        (("--appendfsync", "everysec"), ["appendfsync always: with everysec"]),
        (("--appendonly", "no"), ["appendonly yes"]),
        (
            ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"),
            ["maxmemory-policy noeviction: with allkeys-lru"],
        ),
        (("--user", "default", "on", "nopass", "~*", "+@all", "-info", "-config"), ["not tell"]),
    ],
)
def test_it_is_said_once_if_acknowledged_changes_can_be_lost(tmp_path, caplog, settings, warnings):
    with (
        caplog.at_level(logging.WARNING),
        RedisServer(tmp_path / "redis", *settings) as server,
        contextlib.closing(open_log(server.location, "mind")) as log,
    ):
        log.append([("x", _add("1"))])
        records = [r for r in caplog.records if r.name == "contract.redis_change_log"]
        assert len(records) == len(warnings)
        for record, warning in zip(records, warnings, strict=True):
            assert record.message == "acknowledged changes can be lost"
            assert warning in record.error
            assert record.log == server.location


def test_the_password_may_be_in_a_file_and_is_never_shown(tmp_path):
    path = tmp_path / "password"
    with RedisServer(tmp_path / "redis", "--requirepass", _SECRET) as server:
        bare = server.location
        messages = []
        for location in (bare, bare.replace("//", f"//:{_SECRET}x@")):
            with pytest.raises(ChangeLogError, match="cannot be used") as error:
                open_log(location, "mind")
            messages.append(str(error.value))
        path.write_text(f"{_SECRET}\n")
        with contextlib.closing(open_log(f"{bare}?password_file={path}", "mind")) as log:
            log.append([("x", _add("1"))])
            # The file is read for each connection: a wrong one is no reason to start again.
            path.write_text("")
            server.kill()
            server.start()
            with pytest.raises(ChangeLogError, match="is empty") as error:
                log.last()
            messages.append(str(error.value))
            path.write_text(_SECRET)
            assert log.last() == 1
        assert all(bare in message and _SECRET not in message for message in messages)


def test_a_socket_and_a_database(tmp_path):
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path / "redis", "--unixsocket", str(path)) as other:
        location = f"unix://{path}?db=3"
        with contextlib.closing(open_log(location, "mind")) as log:
            log.append([("x", _add("1"))])
        with contextlib.closing(open_log(other.location.replace("/0", "/3"), "mind")) as log:
            assert log.last() == 1
        with contextlib.closing(open_log(other.location, "mind")) as log:
            assert log.last() == 0


def test_tls(tmp_path):
    key, chain = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(chain), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = ("--tls-cert-file", str(chain), "--tls-key-file", str(key))
    settings = ("--tls-port", str(port), *files, "--tls-auth-clients", "no")
    with RedisServer(tmp_path / "redis", *settings):
        location = f"rediss://127.0.0.1:{port}/0"
        with contextlib.closing(open_log(f"{location}?ssl_ca_certs={chain}", "mind")) as log:
            assert log.append([("x", _add("1"))]) == 1
        # A certificate that nobody knows is refused.
        with pytest.raises(ChangeLogError, match=r"(?i)certificate verify failed"):
            open_log(location, "mind")
