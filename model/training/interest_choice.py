"""Decides whether the gain from several interests justifies their additional searches."""

import dataclasses

import numpy as np

from contract.metric_names import RECALL, metric_name
from model import metrics
from model.network.mind import MindModel
from model.paired_test import paired_difference
from model.training.validation import ValidationData, person_ranks


@dataclasses.dataclass(frozen=True)
class InterestChoice:
    """Comparison of the same training with several interests and with one.

    Attributes:
      num_interests: The number of interests that is kept: K or 1.
      several: K, the number of interests compared with one.
      cutoff: N.
      recall_with_one: Recall@N of the model with one interest on the validation people.
      recall_with_several: Recall@N of the model with K interests, with the same budget N.
      low: Lower end of the 95 % interval of the mean difference in recall on the same
        people, K interests minus one.
      high: Upper end of this interval.
      people: Number of people compared.
    """

    num_interests: int
    several: int
    cutoff: int
    recall_with_one: float
    recall_with_several: float
    low: float
    high: float
    people: int


def choose_interests(
    several: MindModel, one: MindModel, people: ValidationData, cutoff: int, exclude_history: bool
) -> InterestChoice:
    """Compares two trained models on the same people.

    Each interest of a request costs one search of the index. Several interests are kept only
    if the paired 95 % interval of the gain in Recall@N lies above zero, so that the more
    expensive model is seldom chosen by chance.

    Args:
      several: The model with K interests.
      one: The model trained in the same way with one interest.
      people: The people to compare on; people without a target are left out.
      cutoff: N, the budget of results for all interests together.
      exclude_history: Whether to leave out the items that a person already had.
    """
    column = metrics.quantity_names((cutoff,)).index(metric_name(RECALL, cutoff))
    recalls = [
        metrics.per_person(person_ranks(model, people, exclude_history), (cutoff,))[:, column]
        for model in (several, one)
    ]
    difference = paired_difference(*(np.stack([r, np.ones_like(r)]) for r in recalls))
    return InterestChoice(
        num_interests=several.num_interests if difference.low > 0 else 1,
        several=several.num_interests,
        cutoff=cutoff,
        recall_with_one=float(recalls[1].mean()),
        recall_with_several=float(recalls[0].mean()),
        low=difference.low,
        high=difference.high,
        people=difference.people,
    )
