"""The balance between what people have had and everything else."""

import dataclasses

import numpy as np
import pytest

from model.catalogue import Catalogue
from model.config import RepeatConfig
from model.network.mind import MindModel
from model.training.validation import ValidationData, calibrate, evaluate
from tests.unit.model.training.toy_training import MODEL, TRAINING

_HISTORY = np.array([[1, 2, 3, 1, 2, 3], [4, 5, 6, 6, 5, 4]])


def _mind(x):
    """Scores all own items alike, by the logit ``x``."""
    network = dataclasses.replace(MODEL, repeat=RepeatConfig())
    mind = MindModel(network, TRAINING, Catalogue(np.array([0, *range(30, 0, -1)])))
    for weight in mind.repeat.trainable_variables:
        weight.assign(np.zeros(weight.shape))
        if "logit/bias" in weight.name:
            weight.assign([x])
    return mind


def test_own_items_go_first_where_people_repeat():
    mind = _mind(4.0)  # the interests' logits are cosines over 0.07: from -14 to 14
    people = ValidationData(_HISTORY, np.array([[1, 2, 3], [4, 5, 6]]))
    before = evaluate(mind, people, (3,), exclude_history=False)["recall@3"]
    calibrate(mind, people, cutoff=3)
    assert before < 1.0
    assert evaluate(mind, people, (3,), exclude_history=False)["recall@3"] == 1.0


def test_nothing_is_gained_where_nobody_repeats():
    mind = _mind(-4.0)
    calibrate(mind, ValidationData(_HISTORY, np.array([[10, 11], [12, 13]])), cutoff=5)
    assert float(mind.repeat.offset) == 0.0


@pytest.mark.parametrize("exclude_history", [True, False])
def test_histories_of_many_different_lengths_are_scored_in_batches(exclude_history, monkeypatch):
    mind = _mind(3.0)
    history = np.zeros([70, 9], np.int64)
    for row in range(70):
        history[row, : 1 + row % 9] = 1 + np.arange(1 + row % 9) * (1 + row % 3)
    people = ValidationData(history, np.arange(70)[:, np.newaxis] % 30 + 1)
    whole = evaluate(mind, people, (5,), exclude_history)
    monkeypatch.setattr("model.training.validation._OWN_BATCH", 7)
    assert evaluate(mind, people, (5,), exclude_history) == whole
