"""Locations of Redis servers: what is read of them, and that no message shows a password."""

import sys

import pytest
import redis

from contract.change_log import open_log
from contract.errors import chain
from contract.histories import Retention
from contract.history_store import open_store
from contract.redis_connection import (
    RedisLocation,
    RedisLocationError,
    check_location,
    connect,
    is_redis,
)

_SECRET = "s3cret"


def _tcp(location):
    parsed = RedisLocation.parse(location)
    return parsed.shown, parsed.options["host"], parsed.options["port"], parsed.options["db"]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("redis://cache", ("redis://cache:6379/0", "cache", 6379, 0)),
        ("redis://cache:7/3", ("redis://cache:7/3", "cache", 7, 3)),
        ("rediss://cache", ("rediss://cache:6379/0", "cache", 6379, 0)),
        (f"redis://me:{_SECRET}@cache/1", ("redis://cache:6379/1", "cache", 6379, 1)),
        # The password in the place of the user, which is a frequent mistake.
        (f"redis://{_SECRET}@cache", ("redis://cache:6379/0", "cache", 6379, 0)),
        ("redis://[::1]:7/0", ("redis://::1:7/0", "::1", 7, 0)),
    ],
)
def test_a_location_is_read(location, expected):
    assert _tcp(location) == expected
    assert _SECRET not in repr(RedisLocation.parse(location).shown)


def test_a_socket():
    parsed = RedisLocation.parse("unix:///run/redis.sock?db=2")
    assert parsed.options == {"unix_socket_path": "/run/redis.sock", "db": 2}
    assert parsed.shown == "unix:///run/redis.sock"


def test_tls():
    parsed = RedisLocation.parse("rediss://cache?ssl_ca_certs=/ca.pem")
    assert (parsed.options["ssl"], parsed.options["ssl_ca_certs"]) == (True, "/ca.pem")
    assert RedisLocation.parse("redis://cache").options["ssl"] is False


@pytest.mark.parametrize(
    "location",
    [
        "redis://",
        "redis:/cache",
        "redis://cache/zero",
        f"redis://:{_SECRET}/x@cache/0",
        f"redis://:{_SECRET}#x@cache/0",
        f"redis://:12#{_SECRET}@cache/0",
        f"redis://:12?{_SECRET}@cache/0",
        f"redis://cache:{_SECRET}",
        f"redis://cache?password={_SECRET}",
        "redis://cache?ssl_ca_certs=/ca.pem",
        "unix://",
        "unix://host/path",
    ],
)
def test_what_is_no_location_is_refused_without_being_shown(location):
    with pytest.raises(RedisLocationError, match=r"must be redis://") as error:
        RedisLocation.parse(location)
    assert _SECRET not in str(error.value)
    # Nor is the error behind it, whose text may have a part.
    assert list(chain(error.value)) == [error.value]


def test_the_password_of_the_url_is_decoded():
    assert RedisLocation.parse("redis://me:a%2Fb%40c@cache").get_credentials() == ("me", "a/b@c")
    assert RedisLocation.parse("redis://:a@cache").get_credentials() == ("a",)


def test_the_password_of_a_file_is_read_for_each_connection(tmp_path):
    path = tmp_path / "password"
    parsed = RedisLocation.parse(f"redis://me@cache?password_file={path}")
    with pytest.raises(redis.AuthenticationError, match="No such file"):
        parsed.get_credentials()
    path.write_text("first\n")
    assert parsed.get_credentials() == ("me", "first")
    path.write_text("second\n")
    assert parsed.get_credentials() == ("me", "second")
    path.write_text("\n")
    with pytest.raises(redis.AuthenticationError, match="is empty"):
        parsed.get_credentials()
    with pytest.raises(RedisLocationError, match="give one of them"):
        RedisLocation.parse(f"redis://:x@cache?password_file={path}")


def test_a_location_is_no_path():
    for location in ("redis://a", "rediss://a", "unix:///a", "redis:/a"):
        assert is_redis(location)
    for location in ("output/changes", "/redis", "redis", "./redis:"):
        assert not is_redis(location)


def test_without_the_library_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(RedisLocationError, match="extra 'redis'"):
        connect(RedisLocation.parse("redis://cache"))


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("redis://:secret/0", "must be redis://"),
        ("redis:/cache", "must be redis://"),
        ("http://me:secret@cache", r"must be a local directory, .* got http://\.\.\."),
        ("gs://bucket/secret", r"must be a local directory, .* got gs://\.\.\."),
    ],
)
def test_a_location_that_can_be_none_is_refused(location, problem):
    for use in (
        check_location,
        lambda place: open_log(place, "mind"),
        lambda place: open_store(place, "mind", Retention()),
    ):
        with pytest.raises(RedisLocationError, match=problem) as error:
            use(location)
        assert "secret" not in str(error.value)


def test_a_directory_is_a_location():
    check_location("output/changes")
    check_location("")
    check_location("redis://localhost/3")
