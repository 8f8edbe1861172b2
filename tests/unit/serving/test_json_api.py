"""Messages of any number at once: small ones wait for nobody, large ones for each other."""

import asyncio

import orjson
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from contract.server_methods import ServerMethod
from serving.json_api import JsonApi
from serving.metrics import Metrics
from serving.request_log import RequestLog

_SMALL, _LARGE = "x", "x" * 100_000


async def _ask(texts, answer):
    """Sends messages at the same time; returns how many were answered with 200."""
    api = JsonApi(RequestLog(Metrics(), lambda: ["m"], "none"), max_bytes=2**20)
    app = web.Application()
    api.add_routes(app, {ServerMethod("test", "/{name}", "test.Service", "Test"): answer})
    async with TestServer(app) as server, ClientSession() as session:

        async def post(text):
            async with session.post(server.make_url("/m"), data=orjson.dumps({"text": text})) as r:
                return r.status

        statuses = await asyncio.gather(*map(post, texts))
    return statuses.count(200)


def test_small_messages_are_answered_together():
    """As a store does that writes all that wait at once."""
    missing, all_are_in = 12, asyncio.Event()

    async def answer(name, body):
        nonlocal missing
        missing -= 1
        if not missing:
            all_are_in.set()
        await all_are_in.wait()
        return {}

    assert asyncio.run(_ask([_SMALL] * 12, answer)) == 12


def test_few_large_messages_are_in_memory_at_once():
    now, most = 0, 0

    async def answer(name, body):
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(100):  # turns of the loop, in which others could come in
            await asyncio.sleep(0)
        now -= 1
        return {"length": len(body["text"])}

    assert asyncio.run(_ask([_LARGE] * 12, answer)) == 12
    assert 1 < most <= 4
