"""Checks a trained model by what the evaluations and the training measured."""

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
    """Compares the model with other models, and its own figures with their limits.

    Args:
      metric: The name of the compared metric, such as ``recall_at_50``.
      ours: The model's sums within groups of people, [2, G].
      others: By rail, the sums of the model that the rail compares with; None if there is no
        such model, or nothing was measured for it.
      figures: By rail, the model's own figure; None if it was not measured.
      config: The limits.

    Returns:
      A finding for each rail that could be checked.
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
            f"{_FIGURES[rail]} {value:.3f}; at {'least' if at_least else 'most'} {limit:g} is "
            "allowed",
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
