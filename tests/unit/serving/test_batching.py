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
from serving.metrics import Metrics
from serving.model_manager import Servable, State
from serving.saved_model import SavedModel
from tests import serving_models
from tests.category_bundle import save_category_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("recommender")
    serving_models.save_recommender(path)
    return SavedModel(path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("shop") / "saved"
    save_category_bundle(path)
    return SavedModel(path)


class _Recorded:
    """A SavedModel whose runs are counted and can be held back."""

    def __init__(self, model):
        self.signatures = model.signatures
        self.complete_inputs = model.complete_inputs
        self.runs = []
        self.gate = threading.Event()
        self.gate.set()
        self.fail_rows = ()
        self._model = model

    def run(self, name, inputs, output_names, timeout_ms):
        assert self.gate.wait(10)
        self.runs.append({key: np.shape(value) for key, value in inputs.items()})
        for row in inputs.get("history", ()):
            if row[0] in self.fail_rows:
                raise invalid_argument("bad row")
        return self._model.run(name, inputs, output_names, timeout_ms)


def _answers(model, requests, *, timeouts=None, **config):
    """Runs ``requests`` while the only thread is busy; returns answers and runs."""
    recorded = _Recorded(model)

    async def run():
        runner = Runner(BatchingConfig(num_threads=1, **config), Metrics())
        servable = Servable("mind", 1, Path("."), state=State.AVAILABLE, _model=recorded)

        def start(signature, inputs, timeout=10.0):
            complete = recorded.complete_inputs(signature, inputs)
            names = tuple(model.signatures[signature].outputs)
            return asyncio.ensure_future(runner.run(servable, signature, complete, names, timeout))

        recorded.gate.clear()
        blocker = start("item_titles", {"items": np.array([b"1"], object)})
        await asyncio.sleep(0.05)
        waiting = [
            start(*request, timeout)
            for request, timeout in zip(requests, timeouts or [10.0] * len(requests), strict=True)
        ]
        await asyncio.sleep(0.05)
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


def test_category_lists_of_different_lengths_merge_and_diversities_do_not(shop):
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
    answers, runs = _answers(shop, requests)
    assert [run["allow_categories"] for run in runs] == [(3, 2), (1, 1), (1, 1)]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(shop, signature, inputs))


def test_equal_values_by_row_stay_with_their_rows(shop):
    by_row = {
        "k": np.array([2, 5], np.int32),
        "diversity": np.array([0.0, 1.0], np.float32),
    }
    requests = [
        ("serving_default", _inputs(["3"], ["4"], **by_row)),
        ("serving_default", _inputs(["5"], ["6"], **by_row)),
    ]
    answers, runs = _answers(shop, requests)
    assert [(run["history"][0], run["k"], run["diversity"]) for run in runs] == [(4, (4,), (4,))]
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        _assert_same(answer, _alone(shop, signature, inputs))


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
    recorded_bad = b"13"
    requests = [
        ("serving_default", _inputs(["3"])),
        ("serving_default", _inputs(["13"])),
        ("serving_default", _inputs(["4"])),
    ]
    original = _Recorded.__init__

    def with_failure(self, model):
        original(self, model)
        self.fail_rows = (recorded_bad,)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Recorded, "__init__", with_failure)
        answers, _ = _answers(model, requests)
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


def test_a_request_that_waited_too_long_is_not_run(model):
    requests = [("serving_default", _inputs(["3"]))] * 2
    answers, runs = _answers(model, requests, timeouts=[0.01, 10.0])
    assert answers[0].code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert [run["history"][0] for run in runs] == [1]
    _assert_same(answers[1], _alone(model, *requests[1]))
