"""What is taken on: how many requests, how many bytes, and nothing that would be refused later."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.admission import Admission
from serving.batching import Runner
from serving.config import BatchingConfig, ServerConfig
from serving.errors import ServingError
from serving.limits import Work
from serving.metrics import Metrics
from serving.saved_model import SavedModel
from serving.servable import Servable
from tests.running_server import LONG_SECONDS


class _World:
    """An admission without a model behind it."""

    def __init__(self, **config):
        self.metrics = Metrics()
        self.runner = Runner(BatchingConfig(**config.pop("batching", {})), self.metrics)
        self.admission = Admission(ServerConfig(**config), self.runner, self.metrics)

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


def test_requests_under_way_are_bounded():
    world = _World(max_requests_under_way=2)
    with world.admission.call("a", "", 1), world.admission.call("b", "", 1):
        with (
            pytest.raises(ServingError, match="max_requests_under_way") as error,
            world.admission.call("c", "", 1),
        ):
            pass
        assert error.value.code == grpc.StatusCode.UNAVAILABLE
    assert world.value("serving_refused_requests_total", reason="too_many_calls") == 1
    with world.admission.call("c", "", 1):
        pass


def test_memory_is_bounded_from_the_first_byte_to_the_answer():
    world = _World(max_bytes_under_way=100)
    with world.admission.call("a", "", 60) as first:
        with world.admission.call("b", "", 20) as second:
            second.read(10)
            assert world.value("serving_queued_bytes") == 90
            with pytest.raises(ServingError, match="max_bytes_under_way"):
                second.hold(11)
            first.hold(10)
        assert world.value("serving_queued_bytes") == 70
        assert second.num_bytes == 30
    assert world.value("serving_queued_bytes") == 0
    assert world.value("serving_refused_requests_total", reason="memory") == 1


def test_what_does_not_fit_while_it_begins_leaves_nothing_behind():
    world = _World(max_bytes_under_way=100)
    with world.admission.call("a", "", 60):
        with pytest.raises(ServingError), world.admission.call("b", "", 41):
            pass
        assert world.value("serving_queued_bytes") == 60
        with world.admission.call("b", "", 40):
            pass


def test_one_request_alone_is_taken_on_whatever_its_size():
    world = _World(max_bytes_under_way=100)
    with (
        world.admission.call("a", "", 1000),
        pytest.raises(ServingError),
        world.admission.call("b", "", 1),
    ):
        pass


def test_strings_count_as_the_objects_that_they_become():
    world = _World()
    with world.admission.call("a", "", 10) as call:
        call.decoded({"history": np.array([[b"1", b"2"]], object), "k": np.zeros(3, np.int32)})
        # A pointer and an object of 33 bytes for each string; its characters are in the message.
        assert world.value("serving_queued_bytes") == 10 + 2 * (8 + 33) + 3 * 4


def test_a_full_queue_refuses_before_the_request_is_decoded(recommender):
    """What a request will cost is told from its size, by the requests before it."""
    model = SavedModel(recommender)
    world = _World(batching={"num_threads": 1, "max_queued_work": 100})

    async def run():
        servable = Servable("mind", 1, Path("."))
        servable.serve(model)
        signature = model.signatures["serving_default"]

        def start(rows, num_bytes):
            inputs = {"history": np.array([[b"1"]] * rows, object)}
            complete = model.complete_inputs("serving_default", inputs)
            answer = world.runner.run(
                servable,
                "serving_default",
                complete,
                tuple(signature.outputs),
                LONG_SECONDS,
                work=Work(rows),
                flow="a",
                num_bytes=num_bytes,
            )
            return asyncio.ensure_future(answer)

        # Until a row takes about ten bytes, as far as the runner knows.
        for _ in range(200):
            await start(10, 100)
        waiting = [start(30, 300) for _ in range(4)]  # one runs, three of 90 rows wait
        await asyncio.sleep(0)
        with pytest.raises(ServingError) as error:
            world.runner.admit("a", 300)
        assert error.value.code == grpc.StatusCode.UNAVAILABLE
        world.runner.admit("a", 50)  # about 5 rows
        world.runner.admit("b", 300)  # as much as a third of what the other caller has
        await asyncio.gather(*waiting)
        world.runner.close()

    asyncio.run(run())
    assert world.value("serving_refused_requests_total", reason="queue_full") == 1
