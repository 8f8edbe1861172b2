"""Several interests or one: the rule by hand."""

import dataclasses

import numpy as np
import pytest

from model.network.mind import MindModel
from model.training import interest_choice
from model.training.interest_choice import choose_interests
from tests.unit.model.training.toy_training import MODEL, TRAINING


def _model(toy_data, num_interests):
    network = dataclasses.replace(MODEL, num_interests=num_interests)
    return MindModel(network, TRAINING, toy_data.catalogue)


@pytest.mark.parametrize(
    ("several", "one", "interval", "kept"),
    [
        # Differences 1, 1, 0, 0: mean 1/2, deviation .577, and t of 3 degrees 3.182.
        ([1, 2, 3, 9], [9, 9, 3, 9], (-0.419, 1.419), 1),
        # Ten of twelve people gain: mean .833, deviation .389, t of 11 degrees 2.201.
        ([1] * 10 + [9] * 2, [9] * 12, (0.586, 1.081), 2),
        ([1] * 12, [1] * 12, (0.0, 0.0), 1),
    ],
)
def test_several_are_kept_if_the_gain_is_beyond_chance(
    several, one, interval, kept, toy_data, monkeypatch
):
    models = [_model(toy_data, k) for k in (2, 1)]
    ranks = {2: several, 1: one}
    monkeypatch.setattr(
        interest_choice,
        "person_ranks",
        lambda model, people, exclude: np.array(ranks[model.num_interests])[:, np.newaxis],
    )
    choice = choose_interests(*models, toy_data.validation(10), 3, exclude_history=False)
    assert choice.num_interests == kept
    assert (choice.low, choice.high) == pytest.approx(interval, abs=1e-3)
    assert choice.people == len(one)
    assert choice.recall_with_several == pytest.approx(np.mean(np.array(several) <= 3))
    assert choice.recall_with_one == pytest.approx(np.mean(np.array(one) <= 3))
