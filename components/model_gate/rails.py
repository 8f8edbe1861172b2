"""Judges a trained model by what the evaluations and the training measured."""

from collections.abc import Mapping

import numpy as np

from components.model_gate.config import ModelRailsConfig
from contract.guard_rails import Finding
from model.paired_test import paired_difference


def judge_model(
    metric: str,
    ours: np.ndarray,
    others: Mapping[str, np.ndarray | None],
    figures: Mapping[str, float | None],
    config: ModelRailsConfig,
) -> list[Finding]:
    """Compares the model with others, and its figures with their limits.

    Args:
      metric: What is compared, in words such as ``recall_at_50``.
      ours: The model's sums within groups of people, [2, G].
      others: By rail, the same of the model that the rail names; None if there is no
        such model, or nothing was measured for it.
      figures: By rail, what was measured of the model itself; None if nothing was.
      config: The limits.
    """
    findings: list[Finding] = []
    for rail, theirs in others.items():
        if theirs is None:
            continue
        found = paired_difference(ours, theirs)
        limit = getattr(config, rail)
        name = _OTHERS[rail]
        findings += config.finding(
            rail,
            f"{metric} is {abs(found.value):.4f} {'below' if found.value < 0 else 'above'} that of "
            f"{name} on the same {found.people:,} people; the 95 % interval of the difference, "
            f"{found.low:+.4f} to {found.high:+.4f}, may not lie wholly below {-limit or 0:g}",
            found.high < -limit,
        )
    for rail, value in figures.items():
        if value is None or np.isnan(value):
            continue
        limit = getattr(config, rail)
        at_least = rail == "distinct_lists"
        findings += config.finding(
            rail,
            f"{_FIGURES[rail]} {value:.3f}; allowed is at {'least' if at_least else 'most'} "
            f"{limit:g}",
            value < limit if at_least else value > limit,
        )
    return findings


_OTHERS = {
    "worse_than_pushed": "the model in service",
    "worse_than_item_knn": "item-kNN",
    "worse_than_recent_1d": "the popularity of the last day",
    "worse_than_recent_7d": "the popularity of the last seven days",
    "worse_than_personal_frequency": "what each person has had most often",
}
_FIGURES = {
    "distinct_lists": "The number of different items recommended, over the length of a list, is",
    "concentration": "The share of recommendations that goes to a hundredth of the items is",
    "interest_cosine": "The mean cosine between two interests of a person is",
}
