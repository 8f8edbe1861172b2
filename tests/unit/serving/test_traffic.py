"""Requests go to stable version or canary; a bad canary hurts nobody and is taken back."""

import asyncio
import collections

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_pb2

from contract import release_changes, release_file
from contract.release import CanaryLimits
from serving.errors import ServingError, invalid_argument
from serving.traffic import Traffic
from tests.unit.serving.release_world import World, scenario

STABLE, CANARY = 7, 9
ITEMS = {"item_ids": np.array([[b"1", b"2"], [b"3", b""]], object)}
HALF_EMPTY = {"item_ids": np.array([[b"1", b"2"], [b"", b""]], object)}
NOTHING = {"item_ids": np.array([[b"", b""], [b"", b""]], object)}


class _Trial(World):
    """Version 9 on trial beside 7; ``does`` says what each version does with a request."""

    def __init__(self, base, share=0.5, **limits):
        super().__init__(base, versions=(STABLE, CANARY))
        self.draws = []
        self.traffic = Traffic(
            self.manager, self.metrics, clock=self.clock, draw=lambda: self.draws.pop(0)
        )
        self.does = {STABLE: ITEMS, CANARY: ITEMS}
        self.seconds = {STABLE: 0.01, CANARY: 0.01}
        self.asked = collections.Counter()
        limits = CanaryLimits(**{"min_requests": 10, **limits})
        self.change(release_changes.start_canary, CANARY, share=share, limits=limits)

    async def attempt(self, servable):
        self.asked[servable.version] += 1
        self.clock.now += self.seconds[servable.version]
        does = self.does[servable.version]
        if isinstance(does, BaseException):
            raise does
        return does, servable.version

    async def ask(self, draw=None, **spec):
        """The version that answered, and what."""
        if draw is not None:
            self.draws.append(draw)
        key = spec.pop("key", "")
        outputs, version = await self.traffic.answer(
            model_pb2.ModelSpec(name="m", **spec), key, self.attempt
        )
        return version, outputs

    async def asks(self, count, draw):
        return {(await self.ask(draw))[0] for _ in range(count)}

    def withdrawn(self):
        return {v: w.reason for v, w in release_file.read(self.base).withdrawn.items()}


def test_a_share_of_those_who_name_no_version_asks_the_canary(tmp_path):
    world = _Trial(tmp_path, share=0.25)

    async def steps():
        await world.starts()
        assert [(await world.ask(draw))[0] for draw in (0.0, 0.249, 0.25, 0.9)] == [9, 9, 7, 7]
        # A key decides, not chance; a version or label that is named is what answers.
        answers = {}
        for n in range(200):
            answers[n] = {(await world.ask(key=f"person {n}"))[0] for _ in range(3)}
        assert all(len(versions) == 1 for versions in answers.values())
        canaries = sum(versions == {CANARY} for versions in answers.values())
        assert 26 <= canaries <= 74  # 50 of 200, and four standard deviations
        assert {(await world.ask(key=str(n), version_label="stable"))[0] for n in range(20)} == {7}
        assert {(await world.ask(key=str(n), version_label="canary"))[0] for n in range(20)} == {9}

    scenario(world, steps)


def test_what_is_counted_by_label(tmp_path):
    world = _Trial(tmp_path)

    async def steps():
        await world.starts()
        await world.asks(3, draw=0.9)
        world.does[CANARY] = HALF_EMPTY
        world.does[STABLE] = NOTHING
        await world.asks(1, draw=0.0)
        requests = "serving_release_requests_total"
        # One of the four of stable compared an answer of the canary.
        assert world.metric(requests, label="stable", code="OK") == 4
        assert world.metric(requests, label="canary", code="OK") == 1
        assert world.metric("serving_release_empty_answers_total", label="canary") == 0.5
        assert world.metric("serving_release_empty_answers_total", label="stable") == 1
        assert world.metric("serving_release_request_seconds_count", label="stable") == 4

    scenario(world, steps)


@pytest.mark.parametrize(
    "fault",
    [
        ServingError(grpc.StatusCode.INTERNAL, "broken"),
        # The defects of a graph often have the status of a bad request.
        invalid_argument("indices[0] = 5 is not in [0, 5)"),
        RuntimeError("a surprise"),
    ],
)
def test_a_canary_that_fails_hurts_nobody_and_is_taken_back(tmp_path, fault):
    world = _Trial(tmp_path)
    world.does[CANARY] = fault

    async def steps():
        await world.starts()
        assert await world.asks(9, draw=0.0) == {STABLE}
        await world.traffic.check()
        assert world.withdrawn() == {}
        assert await world.asks(1, draw=0.0) == {STABLE}
        assert world.metric("serving_release_fallbacks_total") == 10
        await world.traffic.check()
        (reason,) = world.withdrawn().values()
        assert reason.startswith("100.0% of 10 requests in 600 s failed")
        assert world.metric("serving_canary_rollbacks_total", cause="errors") == 1
        # It is gone at once, and also from other servers' view.
        assert world.available() == [STABLE]
        asked = world.asked[CANARY]
        assert await world.asks(5, draw=None) == {STABLE}
        assert world.asked[CANARY] == asked
        change = release_file.read(tmp_path).history[-1]
        assert change.by.startswith("the server on ")

    scenario(world, steps)
    again = World(tmp_path, versions=())

    async def after_a_restart():
        assert await again.starts() == STABLE
        assert again.available() == [STABLE]

    scenario(again, after_a_restart)


def test_a_request_that_both_versions_refuse_is_the_clients(tmp_path):
    world = _Trial(tmp_path)
    world.does = dict.fromkeys((STABLE, CANARY), invalid_argument("k must be positive"))

    async def steps():
        await world.starts()
        for _ in range(30):
            with pytest.raises(ServingError, match="k must be positive"):
                await world.ask(0.0)
        await world.traffic.check()
        assert world.withdrawn() == {}
        assert world.metric("serving_release_fallbacks_total") is None

    scenario(world, steps)


def test_a_server_under_too_much_load_does_not_ask_twice(tmp_path):
    world = _Trial(tmp_path)
    world.does[CANARY] = ServingError(grpc.StatusCode.UNAVAILABLE, "the queue is full")

    async def steps():
        await world.starts()
        for _ in range(30):
            with pytest.raises(ServingError, match="the queue is full"):
                await world.ask(0.0)
        assert world.asked == {CANARY: 30}
        await world.traffic.check()
        assert world.withdrawn() == {}

    scenario(world, steps)


@pytest.mark.parametrize(
    "late",
    [ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "too late"), asyncio.CancelledError()],
)
def test_a_canary_that_hangs_is_taken_back(tmp_path, late):
    world = _Trial(tmp_path)
    world.does[CANARY] = late

    async def steps():
        await world.starts()
        for _ in range(10):
            with pytest.raises(type(late)):
                await world.ask(0.0)
        assert world.asked == {CANARY: 10}
        await world.traffic.check()
        assert list(world.withdrawn()) == [CANARY]

    scenario(world, steps)


def test_a_canary_that_answers_nothing_is_taken_back(tmp_path):
    world = _Trial(tmp_path)

    async def steps():
        await world.starts()
        # Where the stable version has nothing either, the canary's answer stands.
        world.does = {STABLE: NOTHING, CANARY: NOTHING}
        assert await world.asks(20, draw=0.0) == {CANARY}
        await world.traffic.check()
        assert world.withdrawn() == {}
        world.does = {STABLE: ITEMS, CANARY: HALF_EMPTY}
        version, outputs = await world.ask(0.0)
        assert (version, outputs) == (STABLE, ITEMS)
        # Half of its rows lacked items: 0.5 of 21 requests is above 2 %.
        await world.traffic.check()
        (reason,) = world.withdrawn().values()
        assert reason.startswith("2.4% of 21 requests in 600 s were answered without an item")
        assert world.metric("serving_canary_rollbacks_total", cause="empty_answers") == 1

    scenario(world, steps)


def test_a_slow_canary_is_taken_back(tmp_path):
    world = _Trial(tmp_path)
    world.seconds[CANARY] = 0.03

    async def steps():
        await world.starts()
        await world.asks(10, draw=0.0)
        await world.traffic.check()
        assert world.withdrawn() == {}
        await world.asks(10, draw=0.9)
        await world.traffic.check()
        (reason,) = world.withdrawn().values()
        assert "30.0 ms, 10.0 ms with the stable version" in reason

    scenario(world, steps)


def test_a_good_canary_stays(tmp_path):
    world = _Trial(tmp_path)

    async def steps():
        await world.starts()
        for draw in (0.0, 0.9):
            await world.asks(50, draw=draw)
        await world.traffic.check()
        assert world.withdrawn() == {}
        assert world.available() == [STABLE, CANARY]

    scenario(world, steps)


def test_where_the_state_cannot_be_written_this_server_alone_takes_the_canary_back(
    tmp_path, monkeypatch, caplog
):
    world = _Trial(tmp_path)
    world.does[CANARY] = invalid_argument("broken")
    change = release_file.change

    def refuse(*args):
        raise OSError(30, "Read-only file system", str(tmp_path / "release.json"))

    async def steps():
        await world.starts()
        monkeypatch.setattr(release_file, "change", refuse)
        await world.asks(10, draw=0.0)
        for _ in range(3):
            await world.traffic.check()
            await world.polls()
        assert world.withdrawn() == {}
        assert world.available() == [STABLE]
        assert await world.asks(5, draw=None) == {STABLE}
        assert "version 9 should be canary, but was withdrawn by this server" in world.problem()
        logged = [r.error for r in caplog.records if r.msg == "withdrawal not written"]
        assert len(logged) == 1
        assert "Read-only file system" in logged[0]
        monkeypatch.setattr(release_file, "change", change)
        await world.traffic.check()
        assert list(world.withdrawn()) == [CANARY]
        assert world.problem() == ""

    scenario(world, steps)


def test_what_was_taken_back_can_be_put_on_trial_again(tmp_path):
    world = _Trial(tmp_path)
    world.does[CANARY] = invalid_argument("broken")

    async def steps():
        await world.starts()
        await world.asks(10, draw=0.0)
        await world.traffic.check()
        assert list(world.withdrawn()) == [CANARY]
        world.change(
            release_changes.start_canary, CANARY, share=0.5, limits=CanaryLimits(min_requests=10)
        )
        await world.polls()
        world.does[CANARY] = ITEMS
        # It begins with no requests of the trial before.
        assert await world.asks(10, draw=0.0) == {CANARY}
        await world.traffic.check()
        assert world.withdrawn() == {}

    scenario(world, steps)
