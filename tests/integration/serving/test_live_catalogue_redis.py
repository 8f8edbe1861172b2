"""Servers that share a log in a real Redis or Valkey server, and what each one's end does."""

import itertools
import threading

import httpx
import pytest

from serving.client import Client
from tests import live_server, serving_models
from tests.live_server import NEW
from tests.redis_server import RedisServer
from tests.running_server import wait_until
from tests.server_process import ServerProcess

pytestmark = pytest.mark.slow

_SECRET = "s3cret-password"


@pytest.fixture
def base(live_shop, tmp_path):
    serving_models.push(live_shop, tmp_path / "mind", 1)
    return tmp_path / "mind"


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        yield server


class _Writer:
    """Context manager: adds items one after the other until it is stopped or refused.

    Attributes:
      acknowledged: Ids of the items that the server said it had.
      answers: Statuses of the others; None for no answer.
    """

    def __init__(self, url):
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged, self.answers = [], []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()

    def _run(self):
        with httpx.Client(base_url=self._url, timeout=600) as http:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                item = {**NEW, "id": f"n{number}"}
                try:
                    answer = http.post(f"{live_server.ITEMS}:upsert", json={"items": [item]})
                except httpx.TransportError:
                    self.answers.append(None)
                    return
                if answer.is_success:
                    self.acknowledged.append(item["id"])
                else:
                    self.answers.append(answer.status_code)


def _known(server, items):
    """Which of the items have a title."""
    with Client(server.url) as client:
        titles = client.titles(items)
    return {item for item, title in zip(items, titles, strict=True) if title}


def test_a_change_at_one_server_is_in_the_answers_of_another(base, redis):
    with (
        live_server.serving(base, redis.location) as first,
        live_server.serving(base, redis.location) as second,
    ):
        live_server.upsert(first, NEW, key="a")
        wait_until(lambda: "new" in live_server.found(second))
        # The caller had no answer, and tries its luck with the other one.
        assert live_server.upsert(second, NEW, key="a").json()["repeated"] is True
        live_server.remove(second, "4")
        wait_until(lambda: "4" not in live_server.found(first))
        assert live_server.position(first) == live_server.position(second) == 2
        expected = live_server.found(first)
    with live_server.serving(base, redis.location) as third:
        assert live_server.found(third) == expected


def test_nothing_acknowledged_is_lost_when_a_server_is_killed(base, redis, tmp_path):
    flags = ("--model_base_path", str(base), "--live_catalogue", redis.location)
    with live_server.serving(base, redis.location) as other:
        with ServerProcess(tmp_path / "log", *flags) as server:
            wait_until(lambda: server.http.get("/ready").is_success)
            with _Writer(f"http://127.0.0.1:{server.rest_port}") as writer:
                wait_until(lambda: len(writer.acknowledged) > 20)
                server.kill()
        assert writer.answers == [None]
        wait_until(lambda: live_server.position(other) >= len(writer.acknowledged))
        assert _known(other, writer.acknowledged) == set(writer.acknowledged)
        assert live_server.upsert(other, NEW).is_success


def test_nothing_acknowledged_is_lost_when_redis_is_killed(base, redis):
    with (
        live_server.serving(base, redis.location) as server,
        live_server.serving(base, redis.location) as other,
    ):
        with _Writer(server.url) as writer:
            wait_until(lambda: len(writer.acknowledged) > 20)
            redis.kill()
            wait_until(lambda: len(writer.answers) > 5)
            before = len(writer.acknowledged)
            refused = live_server.upsert(server, NEW)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert "check that the server runs" in refused.json()["error"]
            # Whoever asks for recommendations is not concerned.
            assert "n1" in live_server.found(server, k=1000)
            wait_until(lambda: _followed(other) == 0)
            redis.start()
            wait_until(lambda: len(writer.acknowledged) > before + 5)
        assert set(writer.answers) == {503}
        wait_until(lambda: live_server.position(other) >= live_server.position(server))
        for one in (server, other):
            assert _known(one, writer.acknowledged) == set(writer.acknowledged)
        wait_until(lambda: _followed(other) > 0)


def _followed(server):
    return server.metric("serving_live_followed_timestamp_seconds", model="mind")


def test_a_redis_that_hangs_stops_no_start_and_no_answer(base, redis, live_shop):
    with live_server.serving(base, redis.location) as server:
        live_server.upsert(server, NEW)
        redis.hang()
        refused = live_server.upsert(server, NEW)
        assert refused.status_code == 503
        assert "Timeout" in refused.json()["error"]
        assert "new" in live_server.found(server)
        # The next version waits for the log, and the first one goes on.
        serving_models.push(live_shop, base, 2)
        failures = {"model": "mind", "outcome": "failure"}
        wait_until(lambda: server.metric("serving_model_loads_total", **failures))
        assert "new" in live_server.found(server)
        with live_server.serving(base, redis.location) as late:
            assert late.http.get("/ready").status_code == 503
            redis.go_on()
            wait_until(lambda: late.http.get("/ready").is_success)
            assert "new" in live_server.found(late)
        available = {"model": "mind", "version": "2"}
        wait_until(lambda: server.metric("serving_model_version_available", **available))
        assert live_server.upsert(server, {**NEW, "id": "after"}).is_success
        assert {"new", "after"} <= live_server.found(server)


def test_a_password_is_in_no_message(base, tmp_path, caplog):
    path = tmp_path / "password"
    path.write_text(_SECRET)
    with RedisServer(tmp_path / "redis", "--requirepass", _SECRET) as redis:
        bare = redis.location
        with live_server.serving(base, f"{bare}?password_file={path}") as server:
            assert live_server.upsert(server, NEW).is_success
            redis.kill()
            refused = live_server.upsert(server, NEW)
        redis.start()
        with live_server.serving(base, bare.replace("//", "//:wrong-password@")) as server:
            failures = {"model": "mind", "outcome": "failure"}
            wait_until(lambda: server.metric("serving_model_loads_total", **failures))
            status = server.http.get("/v1/models/mind").text
    assert bare in refused.json()["error"]
    told = [refused.text, status, *(repr(vars(record)) for record in caplog.records)]
    assert any(bare in text for text in told[2:])
    assert not any(secret in text for text in told for secret in (_SECRET, "wrong-password"))
