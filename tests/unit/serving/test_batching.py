"""Merging requests changes nothing but how often the model runs."""

import asyncio
import collections
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.batching import Runner
from serving.config import BatchingConfig
from serving.errors import ServingError, invalid_argument
from serving.limits import Work
from serving.metrics import Metrics
from serving.saved_model import SavedModel
from serving.servable import Servable
from tests import serving_models
from tests.running_server import LONG_SECONDS

_CALLER_SHARE = {"reason": "caller_share"}


@pytest.fixture(scope="module")
def model(recommender):
    return SavedModel(recommender)


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    path = tmp_path_factory.mktemp("timed")
    serving_models.save_timed(path)
    return SavedModel(path)


@pytest.fixture(scope="module")
def loaded_shop(shop):
    return SavedModel(shop)


class _Recorded:
    """A SavedModel whose runs are recorded, and wait until ``gate`` is open."""

    def __init__(self, model, fail_rows=()):
        self.signatures = model.signatures
        self.complete_inputs = model.complete_inputs
        self.runs = []
        self.gate = threading.Event()
        self._model = model
        self._fail_rows = fail_rows

    def run(self, name, inputs, output_names, timeout_ms):
        assert self.gate.wait(LONG_SECONDS)
        self.runs.append({key: np.shape(value) for key, value in inputs.items()})
        for row in inputs.get("history", ()):
            if row[0] in self._fail_rows:
                raise invalid_argument("bad row")
        return self._model.run(name, inputs, output_names, timeout_ms)


class _Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def _queued():
    """Waits until every task that exists now has begun and waits for something."""
    turn = asyncio.Event()
    asyncio.get_running_loop().call_soon(turn.set)
    await turn.wait()


def _answers(model, requests, *, timeouts=None, seconds_in_queue=0.0, fail_rows=(), **config):
    """Queues ``requests`` while the only thread is busy, for ``seconds_in_queue``.

    Returns their answers, errors included, and the shapes of the inputs of each run.
    """
    recorded, clock = _Recorded(model, fail_rows), _Clock()

    async def run():
        runner = Runner(BatchingConfig(num_threads=1, **config), Metrics(), clock)
        servable = Servable("mind", 1, Path("."))
        servable.serve(recorded)

        def start(signature, inputs, timeout=LONG_SECONDS):
            complete = recorded.complete_inputs(signature, inputs)
            names = tuple(model.signatures[signature].outputs)
            return asyncio.ensure_future(runner.run(servable, signature, complete, names, timeout))

        blocker = start("serving_default", _inputs(["1"]))
        await _queued()
        waiting = [
            start(*request, timeout)
            for request, timeout in zip(
                requests, timeouts or [LONG_SECONDS] * len(requests), strict=True
            )
        ]
        await _queued()
        clock.now += seconds_in_queue
        recorded.gate.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await blocker
        await servable.drained()
        runner.close()
        return answers

    return asyncio.run(run()), recorded.runs[1:]


def _history(*rows):
    width = max(map(len, rows))
    padded = [[*row, *[""] * (width - len(row))] for row in rows]
    return np.array([[item.encode() for item in row] for row in padded], object)


def _inputs(*rows, **others):
    return {"history": _history(*rows), **others}


def _alone(model, signature, inputs):
    names = tuple(model.signatures[signature].outputs)
    return model.run(signature, model.complete_inputs(signature, inputs), names)


def _assert_same(answer, expected):
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(answer[name], value, atol=1e-6)
        else:
            np.testing.assert_array_equal(answer[name], value)


def test_waiting_requests_run_once_and_get_their_own_answers(model):
    requests = [
        ("serving_default", _inputs(["3"])),
        ("serving_default", _inputs(["5", "7", "9"], ["11"])),
        ("serving_default", _inputs([""])),
    ]
    answers, runs = _answers(model, requests)
    assert [run["history"] for run in runs] == [(4, 3)]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(model, signature, inputs))


def test_exclusions_of_different_lengths_merge(model):
    requests = [
        ("serving_default", _inputs(["3"], exclude=_history(["5"]))),
        ("serving_default", _inputs(["4"], exclude=_history(["6", "7", "8"]))),
    ]
    answers, runs = _answers(model, requests)
    assert [run["exclude"] for run in runs] == [(2, 3)]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(model, signature, inputs))


def test_category_lists_of_different_lengths_merge_and_diversities_do_not(loaded_shop):
    diversity = {"diversity": np.array(0.5, np.float32)}
    requests = [
        ("serving_default", _inputs(["3"], allow_categories=_history(["war"]), **diversity)),
        ("serving_default", _inputs(["4"])),
        (
            "serving_default",
            _inputs(["5"], ["6"], allow_categories=_history(["noir", "war"], ["drama"]),
                    **diversity),
        ),
        ("serving_default", _inputs(["3"], allow_categories=_history(["war"]))),
    ]  # fmt: skip
    answers, runs = _answers(loaded_shop, requests)
    assert [run["allow_categories"] for run in runs] == [(3, 2), (1, 1), (1, 1)]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(loaded_shop, signature, inputs))


def test_equal_values_by_row_stay_with_their_rows(loaded_shop):
    by_row = {
        "k": np.array([2, 5], np.int32),
        "diversity": np.array([0.0, 1.0], np.float32),
    }
    requests = [
        ("serving_default", _inputs(["3"], ["4"], **by_row)),
        ("serving_default", _inputs(["5"], ["6"], **by_row)),
    ]
    answers, runs = _answers(loaded_shop, requests)
    assert [(run["history"][0], run["k"], run["diversity"]) for run in runs] == [(4, (4,), (4,))]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(loaded_shop, signature, inputs))


@pytest.mark.parametrize(
    "different",
    [
        {"k": np.array(3, np.int32)},
        {"exclude_history": np.array(False)},
        {"exclude": _history(["5"])},
        {"user_age": np.array([b"30"], object)},
    ],
)
def test_requests_with_other_parameters_do_not_merge(model, different):
    requests = [
        ("serving_default", _inputs(["3"])),
        ("serving_default", _inputs(["4"], **different)),
        ("serving_default", _inputs(["5"])),
    ]
    answers, runs = _answers(model, requests)
    assert [run["history"][0] for run in runs] == [2, 1]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(model, signature, inputs))


def test_inputs_that_disagree_on_the_batch_run_alone(model):
    # One exclusion list for two people is broadcast by the model.
    requests = [("serving_default", _inputs(["3"], ["4"], exclude=_history(["5"])))] * 2
    answers, runs = _answers(model, requests)
    assert len(runs) == 2
    _assert_same(answers[0], _alone(model, *requests[0]))


def test_other_signatures_and_disabled_batching_run_alone(model):
    items = ("item_titles", {"items": np.array([b"1"], object)})
    _, runs = _answers(model, [items, items])
    assert len(runs) == 2
    _, runs = _answers(model, [("serving_default", _inputs(["3"]))] * 2, enabled=False)
    assert len(runs) == 2


def test_a_batch_is_no_larger_than_configured(model):
    requests = [("serving_default", _inputs(["3"], ["4"]))] * 3
    _, runs = _answers(model, requests, max_batch_size=5)
    assert [run["history"][0] for run in runs] == [4, 2]


def test_a_bad_request_does_not_fail_its_companions(model):
    requests = [
        ("serving_default", _inputs(["3"])),
        ("serving_default", _inputs(["13"])),
        ("serving_default", _inputs(["4"])),
    ]
    answers, _ = _answers(model, requests, fail_rows=(b"13",))
    assert isinstance(answers[1], ServingError)
    for i in (0, 2):
        _assert_same(answers[i], _alone(model, *requests[i]))


def test_a_full_queue_refuses(model):
    answers, _ = _answers(
        model, [("serving_default", _inputs(["3"]))] * 3, max_queued_requests=2, enabled=False
    )
    codes = collections.Counter(
        answer.code if isinstance(answer, ServingError) else None for answer in answers
    )
    assert codes == {None: 2, grpc.StatusCode.UNAVAILABLE: 1}


def _busy(model, act, **config):
    """Runs ``act`` with a runner whose only thread is busy until ``act`` has returned.

    ``act`` gets a function that queues inputs for a flow. Returns the answers, the shapes of the
    runs and the metrics' registry.
    """
    recorded, metrics = _Recorded(model), Metrics()

    async def run():
        runner = Runner(BatchingConfig(num_threads=1, **config), metrics)
        servable = Servable("mind", 1, Path("."))
        servable.serve(recorded)
        waiting = []

        def start(flow, inputs):
            complete = recorded.complete_inputs("serving_default", inputs)
            signature = model.signatures["serving_default"]
            answer = runner.run(
                servable,
                "serving_default",
                complete,
                tuple(signature.outputs),
                LONG_SECONDS,
                work=Work.of(signature, complete),
                flow=flow,
            )
            waiting.append(asyncio.ensure_future(answer))
            return waiting[-1]

        start("blocker", _inputs(["1"]))
        await _queued()
        await act(start)
        await _queued()
        recorded.gate.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await servable.drained()
        runner.close()
        return answers[1:]

    return asyncio.run(run()), recorded.runs[1:], metrics.registry


def test_a_large_request_runs_in_blocks_and_gets_one_answer(model):
    large = _inputs(["3"], ["4"], ["5"], ["6", "7"], ["8"], k=np.array(3, np.int32))
    small = _inputs(["2"], k=np.array(3, np.int32))

    async def act(start):
        start("a", large)
        start("b", small)

    answers, runs, _ = _busy(model, act, max_batch_size=2)
    # Blocks of 2, 2 and 1 rows; the small request is first, and the last block fits beside it.
    assert [run["history"] for run in runs] == [(2, 2), (2, 2), (2, 2)]
    for answer, inputs in zip(answers, (large, small), strict=True):
        _assert_same(answer, _alone(model, "serving_default", inputs))


def test_unknown_times_stand_for_all_blocks(timed):
    rows = [[("3", 10)], [("4", 20)], [("5", 30)]]
    large = {**_timed(*rows), "history_time": np.zeros([1, 1], np.int64)}

    async def act(start):
        start("a", large)

    answers, runs, _ = _busy(timed, act, max_batch_size=2)
    assert sorted(run["history"] for run in runs) == [(1, 1), (2, 1)]
    _assert_same(answers[0], _alone(timed, "serving_default", large))


def test_rows_that_depend_on_each_other_are_not_cut(model):
    by_row = _inputs(["3"], ["4"], ["5"], k=np.array([3, 1, 2], np.int32))

    async def act(start):
        start("a", by_row)

    answers, runs, _ = _busy(model, act, max_batch_size=2)
    assert [run["history"] for run in runs] == [(3, 1)]
    _assert_same(answers[0], _alone(model, "serving_default", by_row))


def test_a_full_queue_gives_way_to_a_caller_with_less(model):
    async def act(start):
        for flow in ("many", "many", "few"):
            start(flow, _inputs(["3"]))
            await _queued()

    answers, _, registry = _busy(model, act, max_queued_requests=2, enabled=False)
    codes = [answer.code if isinstance(answer, ServingError) else None for answer in answers]
    assert codes == [None, grpc.StatusCode.UNAVAILABLE, None]
    refused = registry.get_sample_value("serving_refused_requests_total", _CALLER_SHARE)
    assert refused == 1


def test_work_is_bounded_by_rows_and_items(model):
    ten = _inputs(*[["3"]] * 10, k=np.array(1, np.int32))
    long = _inputs(["3"], k=np.array(1000, np.int32))

    async def act(start):
        for inputs in (ten, long, ten):
            start("a", inputs)
            await _queued()

    answers, _, registry = _busy(model, act, max_queued_work=21, enabled=False)
    # 10 rows, then 1 row and 1000 items, which are 11 together; 10 more do not fit.
    codes = [answer.code if isinstance(answer, ServingError) else None for answer in answers]
    assert codes == [None, None, grpc.StatusCode.UNAVAILABLE]
    refused = registry.get_sample_value("serving_refused_requests_total", {"reason": "queue_full"})
    assert refused == 1


def test_what_nobody_waits_for_any_longer_is_not_run(model):
    async def act(start):
        gone = start("a", _inputs(["3"], ["4"], ["5"]))
        start("b", _inputs(["6", "7"]))
        await _queued()
        gone.cancel()

    answers, runs, registry = _busy(model, act, max_batch_size=2, enabled=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [run["history"] for run in runs] == [(1, 2)]
    abandoned = registry.get_sample_value("serving_abandoned_requests_total", {"stage": "queue"})
    assert abandoned == 1
    assert registry.get_sample_value("serving_queued_requests") == 0


def test_a_request_that_waited_too_long_is_not_run(model):
    requests = [("serving_default", _inputs(["3"]))] * 2
    answers, runs = _answers(model, requests, timeouts=[5.0, LONG_SECONDS], seconds_in_queue=5.0)
    assert answers[0].code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert [run["history"][0] for run in runs] == [1]
    _assert_same(answers[1], _alone(model, *requests[1]))


def _timed(*rows, **others):
    """Inputs of the model that reads times: rows of (item, seconds)."""
    width = max(map(len, rows))
    times = [[*(t for _, t in row), *[0] * (width - len(row))] for row in rows]
    history = _history(*[[item for item, _ in row] for row in rows])
    return {"history": history, "history_time": np.array(times, np.int64), **others}


@pytest.mark.parametrize("unknown", [np.array([[0]]), np.zeros([1, 7], np.int64), None])
def test_unknown_times_of_any_shape_merge_with_known_ones(timed, unknown):
    times = {} if unknown is None else {"history_time": unknown}
    requests = [
        ("serving_default", _timed([("3", 50)])),
        ("serving_default", _inputs(["4", "5", "6"], **times)),
        ("serving_default", _timed([("7", 1), ("8", 2)], [("9", 3)])),
    ]
    answers, runs = _answers(timed, requests)
    assert [(run["history"], run["history_time"]) for run in runs] == [((4, 3), (4, 3))]
    assert [answer["seconds"].tolist() for answer in answers] == [[50], [0], [3, 3]]


def test_times_that_do_not_fit_their_history_run_alone_and_are_refused(timed):
    wrong = np.array([[5, 6, 7]])
    requests = [
        ("serving_default", _timed([("3", 50)])),
        # Merged with a history of three items, it would seem to fit.
        ("serving_default", _inputs(["4"], history_time=wrong)),
        ("serving_default", _timed([("7", 1), ("8", 2), ("9", 3)])),
    ]
    answers, runs = _answers(timed, requests)
    assert [run["history"] for run in runs] == [(2, 3), (1, 1)]
    assert isinstance(answers[1], ServingError)
    assert "history_time must fit history" in answers[1].message
    assert [answers[i]["seconds"].tolist() for i in (0, 2)] == [[50], [6]]


def test_a_value_in_a_list_of_one_serves_all_rows(timed):
    k = {"k": np.array([4], np.int32)}
    requests = [
        ("serving_default", _inputs(["3"], **k)),
        ("serving_default", _inputs(["4"], ["5"], **k)),
    ]
    answers, runs = _answers(timed, requests)
    assert [(run["history"], run["k"]) for run in runs] == [((3, 1), (1,))]
    assert [answer["k"].tolist() for answer in answers] == [[4], [4, 4]]


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_values_that_do_not_fit_the_rows_run_alone_and_are_refused(timed, shape):
    k = {"k": np.array([4, 6], np.int32).reshape(shape)}
    # Two of them merged would seem to have as many values as rows.
    requests = [("serving_default", _inputs(["3"], **k))] * 2
    answers, runs = _answers(timed, requests)
    assert len(runs) == 2
    assert ["k must be one value" in answer.message for answer in answers] == [True, True]


def test_shapes_that_the_signature_does_not_state_run_alone(model):
    flat = np.array([b"3"], object)
    requests = [
        ("serving_default", {"history": flat}),
        ("serving_default", _inputs(["4"])),
        ("serving_default", {"history": flat}),
        ("serving_default", _inputs(["5"])),
    ]
    answers, runs = _answers(model, requests)
    assert [run["history"] for run in runs] == [(1,), (2, 1), (1,)]
    for refused in answers[::2]:
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert "input history has shape [1], the signature states [?,?]" in refused.message
    for (_, inputs), answer in list(zip(requests, answers, strict=True))[1::2]:
        _assert_same(answer, _alone(model, "serving_default", inputs))
