"""Guard rails on models, by hand."""

import numpy as np
import pytest

from components.model_gate.config import ModelRailsConfig
from components.model_gate.rails import judge_model
from contract.guard_rails import stopping

_RNG = np.random.default_rng(5)
_OURS = np.stack([_RNG.random(400), np.ones(400)])
_FIGURES = {"distinct_lists": 4.0, "concentration": 0.2, "interest_cosine": 0.8}


def _other(lead, noise=0.05):
    """A model that is better by ``lead``, with a standard error of noise / 20."""
    noises = _RNG.normal(0.0, noise, 400)
    return np.stack([_OURS[0] + lead + noises - noises.mean(), np.ones(400)])


def _judge(others=(), figures=_FIGURES, **limits):
    return judge_model("recall_at_50", _OURS, dict(others), figures, ModelRailsConfig(**limits))


def _hit(**arguments):
    return [finding.rail for finding in _judge(**arguments) if finding.tripped]


def test_a_model_is_held_against_others_by_its_paired_interval():
    # 95 % intervals of 1.97 standard errors: -0.004 +/- 0.005 and -0.012 +/- 0.005.
    assert _hit(others={"worse_than_item_knn": _other(0.004)}) == []
    assert _hit(others={"worse_than_item_knn": _other(0.012)}) == ["worse_than_item_knn"]
    # The model in service may be better by 0.005.
    assert _hit(others={"worse_than_pushed": _other(0.009)}) == []
    assert _hit(others={"worse_than_pushed": _other(0.012)}) == ["worse_than_pushed"]
    assert _hit(others={"worse_than_pushed": _other(-0.2), "worse_than_recent_1d": None}) == []


def test_a_collapsed_model_is_held_back_and_a_narrow_one_warned_of():
    findings = _judge(figures={**_FIGURES, "distinct_lists": 1.4, "concentration": 0.6})
    assert [(f.rail, f.tripped) for f in findings] == [
        ("distinct_lists", True),
        ("concentration", True),
        ("interest_cosine", False),
    ]
    assert [f.rail for f in stopping(findings)] == ["distinct_lists"]
    assert _hit(figures={**_FIGURES, "interest_cosine": 0.995}) == ["interest_cosine"]
    assert _judge(figures={"distinct_lists": None, "concentration": float("nan")}) == []


def test_the_message_gives_difference_and_interval():
    (finding,) = _judge(others={"worse_than_item_knn": _other(0.1)}, figures={})
    assert finding.message.startswith(
        "recall_at_50 is 0.1000 below that of item-kNN on the same 400"
    )
    assert "may not lie wholly below 0" in finding.message


def test_a_rail_can_be_told_to_stop():
    told = _judge(others={"worse_than_item_knn": _other(0.1)}, stop=("worse_than_item_knn",))
    assert [f.rail for f in stopping(told)] == ["worse_than_item_knn"]
    with pytest.raises(ValueError, match="Did you mean 'worse_than_item_knn'"):
        ModelRailsConfig(stop=("worse_than_itemknn",))
