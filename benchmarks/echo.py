"""Two servers that do no work, as a baseline for the serving layer around the model.

    python -m benchmarks.echo REST_ANSWER_FILE GRPC_ANSWER_FILE

Each reads every request in full and answers with the bytes of a file: over HTTP with aiohttp, and
over gRPC with grpc.aio. Both listen on free ports of the loopback, which are printed as JSON.
"""

import asyncio
import json
import sys
from pathlib import Path

import grpc
from aiohttp import web

from benchmarks.load import PREDICT_METHOD


async def _serve(rest_answer: bytes, grpc_answer: bytes) -> None:
    async def echo(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=rest_answer, content_type="application/json")

    async def echo_call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return grpc_answer

    application = web.Application()
    application.router.add_post("/{path:.*}", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = grpc.aio.server()
    service, method = PREDICT_METHOD.strip("/").split("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(echo_call)}
    )
    server.add_generic_rpc_handlers((handler,))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ports = {"rest_port": runner.addresses[0][1], "grpc_port": grpc_port}
    print(json.dumps(ports), file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes()))
