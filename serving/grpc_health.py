"""grpc.health.v1 and server reflection, which gRPC tools and load balancers use.

grpcio-health-checking provides the messages and stubs. Its own service is not used: its Watch calls
never end, so one watcher would keep a server from stopping, and when one watcher disconnects, the
other watchers of the same name are disconnected with it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from serving import service_descriptors
from serving.model_manager import ModelManager

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

_WHOLE_SERVER = ""
# A watcher may stay connected indefinitely, and needs no token.
_MAX_WATCHERS = 1000


class HealthService(health_pb2_grpc.HealthServicer):
    """Reports whether the server as a whole, or one model, can answer requests.

    The service name is empty for the server, which is serving when every configured model has a
    version, or the name of a model. For use on one event loop.

    Args:
      manager: Knows the model versions.
      is_ready: Whether the server can answer for every model.
      is_draining: Whether the server is about to stop.
      max_watchers: Most concurrent Watch calls; further ones get RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        manager: ModelManager,
        is_ready: Callable[[], bool],
        is_draining: Callable[[], bool],
        max_watchers: int = _MAX_WATCHERS,
    ):
        self._manager = manager
        self._is_ready = is_ready
        self._is_draining = is_draining
        self._max_watchers = max_watchers
        self._watchers = 0
        self._changed = asyncio.Event()

    async def draining(self) -> None:
        """Returns once the server is about to stop."""
        while True:
            changed = self._changed
            if self._is_draining():
                return
            await changed.wait()

    def notify(self) -> None:
        """Tells the watchers that the status may have changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Returns the current status; NOT_FOUND if there is no such model."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "No model of this name is configured")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yields the current status and every change of it, until the server drains."""
        if self._watchers >= self._max_watchers:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._watchers} calls of Watch are open, which is the limit; use Check",
            )
        self._watchers += 1
        try:
            async for status in self._statuses(request.service):
                yield health_pb2.HealthCheckResponse(status=status)
        finally:
            self._watchers -= 1

    async def _statuses(self, service: str) -> AsyncIterator[int]:
        last: int | None = None
        while True:
            changed = self._changed
            is_last = self._is_draining()
            status = self._status(service)
            if status != last:
                yield status
                last = status
            if is_last:
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        if service != _WHOLE_SERVER and service not in self._manager.model_names():
            return _UNKNOWN
        if self._is_draining():
            return _NOT_SERVING
        if service == _WHOLE_SERVER:
            return _SERVING if self._is_ready() else _NOT_SERVING
        return _SERVING if self._manager.model(service).available() else _NOT_SERVING


class Reflection(reflection.aio.ReflectionServicer):
    """Server reflection whose calls, which clients may keep open, end when the server stops.

    Args:
      service_names: Full names of the services.
      health: Knows when the server is about to stop.
    """

    def __init__(self, service_names: Iterable[str], health: HealthService):
        super().__init__(service_names)
        self._health = health

    async def ServerReflectionInfo(
        self,
        request_iterator: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        unused_context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answers one request after another until the client ends the call or the server drains."""
        answers = super().ServerReflectionInfo(request_iterator, unused_context)
        draining = asyncio.create_task(self._health.draining())
        try:
            while not draining.done():
                answer = asyncio.ensure_future(anext(answers, None))
                await asyncio.wait({answer, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    answer.cancel()
                    return
                if answer.result() is None:
                    return
                yield answer.result()
        finally:
            draining.cancel()


def add_to_server(health: HealthService, server: grpc.aio.Server, own: Collection[str]) -> None:
    """Adds health and reflection to a gRPC server; ``own`` names the server's own services."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = [
        *service_descriptors.register(own),
        health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
        reflection.SERVICE_NAME,
    ]
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names, health), server)
