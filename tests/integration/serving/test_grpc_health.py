"""What gRPC's own tools ask: whether models can be asked, and what methods there are."""

import asyncio
import concurrent.futures
import threading

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from serving.grpc_health import HealthService
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

_SERVING, _NOT_SERVING, _UNKNOWN = "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"


def _name(response):
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def _check(channel, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return _name(health_pb2_grpc.HealthStub(channel).Check(request, timeout=LONG_SECONDS))


class _Watcher:
    """A call of Watch, whose messages are taken one after the other."""

    def __init__(self, channel, service):
        request = health_pb2.HealthCheckRequest(service=service)
        self.call = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=LONG_SECONDS)

    def next(self):
        return _name(next(self.call))


@pytest.fixture
def server(half_plus_two, tmp_path):
    """Serves nothing yet; ``pushed`` makes a version appear."""
    (tmp_path / "m").mkdir()
    with (
        RunningServer(
            model_base_path=str(tmp_path / "m"),
            model_name="m",
            file_system_poll_wait_seconds=0.05,
            allow_reload=True,
        ) as running,
        grpc.insecure_channel(running.grpc_address) as channel,
    ):
        running.base, running.channel = tmp_path, channel
        yield running


def test_health_follows_what_serves(server, half_plus_two):
    watchers = {name: _Watcher(server.channel, name) for name in ("", "m", "other")}
    assert [watcher.next() for watcher in watchers.values()] == [
        _NOT_SERVING,
        _NOT_SERVING,
        _UNKNOWN,
    ]
    assert (_check(server.channel), _check(server.channel, "m")) == (_NOT_SERVING, _NOT_SERVING)
    with pytest.raises(grpc.RpcError) as e:
        _check(server.channel, "other")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    serving_models.push(half_plus_two, server.base / "m", 1)
    assert [watchers[name].next() for name in ("", "m")] == [_SERVING, _SERVING]
    assert (_check(server.channel), _check(server.channel, "m")) == (_SERVING, _SERVING)
    # One watcher's end does not touch another of the same name.
    leaving, staying = (_Watcher(server.channel, "m") for _ in range(2))
    assert (leaving.next(), staying.next()) == (_SERVING, _SERVING)
    leaving.call.cancel()
    # Another model takes the place of the first.
    serving_models.push(half_plus_two, server.base / "other", 1)
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="other", base_path=str(server.base / "other"))
    model_service_pb2_grpc.ModelServiceStub(server.channel).HandleReloadConfigRequest(request)
    assert watchers["other"].next() == _SERVING
    assert watchers["m"].next() == _UNKNOWN
    assert staying.next() == _UNKNOWN


def test_watchers_see_a_server_drain_and_do_not_hold_it(half_plus_two, tmp_path):
    serving_models.push(half_plus_two, tmp_path, 1)
    server = RunningServer(model_base_path=str(tmp_path), model_name="m", drain_seconds=600.0)
    with (
        server,
        grpc.insecure_channel(server.grpc_address) as channel,
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        watchers = [_Watcher(channel, name) for name in ("", "m", "m")]
        wait_until(server.server.manager.is_ready)
        for watcher in watchers:
            while watcher.next() != _SERVING:
                pass
        stopped = thread.submit(server.call, server.server.stop())
        for watcher in watchers:
            assert watcher.next() == _NOT_SERVING
            with pytest.raises(StopIteration):
                next(watcher.call)
            assert watcher.call.code() == grpc.StatusCode.OK
        # Without the end of the calls it would wait for 600 seconds.
        stopped.result(LONG_SECONDS / 2)


def test_a_draining_server_is_not_serving():
    async def statuses():
        manager = ModelManager(lambda path: None, Metrics())
        draining = False
        health = HealthService(manager, lambda: True, lambda: draining)
        before = await health.Check(health_pb2.HealthCheckRequest(), None)
        draining = True
        after = await health.Check(health_pb2.HealthCheckRequest(), None)
        return _name(before), _name(after)

    assert asyncio.run(statuses()) == (_SERVING, _NOT_SERVING)


def test_an_open_reflection_call_does_not_hold_a_server_that_stops(half_plus_two, tmp_path):
    serving_models.push(half_plus_two, tmp_path, 1)
    server = RunningServer(model_base_path=str(tmp_path), model_name="m", drain_seconds=3600.0)
    with (
        server,
        grpc.insecure_channel(server.grpc_address) as channel,
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        ends = threading.Event()

        def requests():
            yield reflection_pb2.ServerReflectionRequest(list_services="*")
            ends.wait()  # the client stays

        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(requests())
        assert next(call).list_services_response.service
        stopped = thread.submit(server.call, server.server.stop())
        with pytest.raises(StopIteration):
            next(call)
        assert call.code() == grpc.StatusCode.OK
        stopped.result(LONG_SECONDS)
        ends.set()


def test_watchers_are_limited(server):
    health = server.server._health
    health._max_watchers = 2
    watchers = [_Watcher(server.channel, "") for _ in range(2)]
    for watcher in watchers:
        watcher.next()
    with pytest.raises(grpc.RpcError, match="2 calls of Watch are open") as e:
        _Watcher(server.channel, "").next()
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    # One that leaves makes room.
    watchers[0].call.cancel()
    wait_until(lambda: health._watchers == 1)
    assert _Watcher(server.channel, "").next() == _NOT_SERVING


def test_health_needs_no_token_and_reflection_does(half_plus_two, tmp_path):
    serving_models.push(half_plus_two, tmp_path / "base", 1)
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef\n")
    with (
        RunningServer(
            model_base_path=str(tmp_path / "base"), auth_token_file=str(tokens)
        ) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        assert _check(channel) == _SERVING
        assert _Watcher(channel, "").next() == _SERVING
        with pytest.raises(grpc.RpcError) as e:
            [*ProtoReflectionDescriptorDatabase(channel).get_services()]
        assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_caller_can_be_written_from_reflection_alone(server, half_plus_two):
    serving_models.push(half_plus_two, server.base / "m", 1)
    wait_until(server.server.manager.is_ready)
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert set(database.get_services()) == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    # Names and types come from the server, none from packages that are installed here.
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    method = service.methods_by_name["Predict"]
    request = message_factory.GetMessageClass(method.input_type)()
    request.model_spec.name = "m"
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=1)
    tensor.float_val.append(1.0)
    call = server.channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    assert call(request).outputs["y"].float_val == [2.5]
