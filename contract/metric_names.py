"""Names of the evaluation metrics that the Evaluator writes and other code looks up."""

from typing import NamedTuple

# Quantities computed from ranks at a cut-off N, and quantities without a cut-off.
RECALL = "recall"
NDCG = "ndcg"
HIT_RATE = "hit_rate"
CUTOFF_QUANTITIES = (RECALL, NDCG, HIT_RATE)
MRR = "mrr"
COVERAGE = "coverage"
CONCENTRATION = "concentration"
DISTINCT_LISTS = "distinct_lists"
# Qualifier of sums within groups of people.
BY_GROUP = "by_group"

# Qualifiers. Without the first one, the history is excluded from the candidates.
HISTORY_INCLUDED = "history_included"
POPULARITY = "popularity"
LIFT_OVER_POPULARITY = "lift_over_popularity"
PERSONAL_FREQUENCY = "personal_frequency"


def recent_popularity(days: int) -> str:
    """Returns the qualifier for the popularity within the last ``days`` days."""
    return f"recent_{days}d"


_AT = "_at_"


def metric_name(quantity: str, cutoff: int | None = None, *qualifiers: str) -> str:
    """Spells a metric's name, such as ``recall_at_50_tail`` or ``mrr_history_included``.

    Args:
      quantity: One of the quantities above.
      cutoff: N; None for a quantity without a cut-off.
      *qualifiers: What else distinguishes the metric; empty ones are left out.
    """
    name = quantity if cutoff is None else f"{quantity}{_AT}{cutoff}"
    return "_".join([name, *(q for q in qualifiers if q)])


class ParsedName(NamedTuple):
    """The parts of a metric's name.

    Attributes:
      quantity: What is measured.
      cutoff: N, or None.
      history_included: Whether the history is among the candidates.
      is_lift: Whether the metric is the lift over popularity.
      rest: Further qualifiers, as in ``tail``; empty if there are none.
    """

    quantity: str
    cutoff: int | None
    history_included: bool
    is_lift: bool
    rest: str


def parse_metric_name(name: str) -> ParsedName:
    """Splits a name that ``metric_name`` built into its parts."""
    plain = name.removesuffix(f"_{LIFT_OVER_POPULARITY}")
    is_lift = plain != name
    without_history = plain.removesuffix(f"_{HISTORY_INCLUDED}")
    history_included = without_history != plain
    quantity, at, tail = without_history.partition(_AT)
    if not at:
        rest = quantity.removeprefix(f"{MRR}_")
        if rest != quantity:
            return ParsedName(MRR, None, history_included, is_lift, rest)
        return ParsedName(quantity, None, history_included, is_lift, "")
    cutoff, _, rest = tail.partition("_")
    return ParsedName(quantity, int(cutoff), history_included, is_lift, rest)
