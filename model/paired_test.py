"""The difference between two models' means on the same people, with its uncertainty."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference and its 95 % interval.

    Attributes:
      value: One model's mean minus the other's.
      low: Lower end of the interval.
      high: Upper end.
      people: Number of people compared.
    """

    value: float
    low: float
    high: float
    people: int


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Compares two models by sums of a quantity over the same groups of people.

    The difference between two models on one person varies far less than the value of
    either model, so that the paired interval is much narrower than the intervals of the
    two means suggest. Groups are random (a hash of the id), and the variance is that of a
    ratio of sums over groups (W. G. Cochran, Sampling Techniques, 3rd ed. 1977, section
    9A.1). If each group has one person, this is the usual paired t interval.

    Args:
      ours: Sums of the quantity and numbers of people by group, [2, G].
      theirs: The same for the other model.

    Raises:
      ValueError: if the two were not measured on the same people.
    """
    if not np.array_equal(ours[1], theirs[1]):
        raise ValueError(
            f"The models were measured on different people: {ours[1].sum():g} and "
            f"{theirs[1].sum():g}, or in different groups. Evaluate both on the same split"
        )
    some = ours[1] > 0
    people, groups = ours[1, some], int(some.sum())
    total = people.sum()
    if not groups:
        return Difference(0.0, 0.0, 0.0, 0)
    differences = ours[0, some] - theirs[0, some]
    value = float(differences.sum() / total)
    if groups == 1:
        return Difference(value, -np.inf, np.inf, int(total))
    deviations = differences - value * people
    error = np.sqrt(groups / (groups - 1) * (deviations**2).sum()) / total
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, groups - 1) * error)
    return Difference(value, value - margin, value + margin, int(total))
