"""Checks the measures of a window's spans, or of a log without a window, against the limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.data_gate.config import DataRailsConfig
from contract.guard_rails import Finding

Measures = Mapping[str, Any]

# How many spans before the newest one are compared in what is new in them. In the first spans of a
# window nearly everything is new, because there is little before them.
_WITH_A_PAST = 3


def judge_spans(measures: Sequence[Measures], config: DataRailsConfig) -> list[Finding]:
    """Compares the newest span with those before it.

    Args:
      measures: ``SpanMeasures`` as JSON types, the oldest span first.
      config: The limits.

    Returns:
      A finding for each rail that could be checked.
    """
    *earlier, newest = measures
    name = newest["name"]
    judge = _Judge(config)
    enough = newest["events"] >= config.min_events
    if enough:
        judge.at_most(
            "future_events",
            newest["future_share"],
            f"{_percent(newest['future_share'])} of the events of span {name} lie in the future",
        )
    if not earlier:
        return judge.findings
    if enough:
        judge.at_most(
            "repeated_events",
            newest["repeated_share"],
            f"{_percent(newest['repeated_share'])} of the events of span {name} are also in the "
            "spans before it",
        )
        judge.at_most(
            "early_events",
            newest["early_share"],
            f"{_percent(newest['early_share'])} of the events of span {name} are older than the "
            "newest event before it",
        )
    if len(earlier) < config.min_earlier_spans:
        return judge.findings

    fewest = min(span["events"] for span in earlier)
    most = max(span["events"] for span in earlier)
    judge.at_least_events(newest["events"], f"Span {name}", fewest, "the spans before it")
    judge.at_most_events(newest["events"], f"Span {name}", most, "the spans before it")
    usual = max(span["bad_share"] for span in earlier)
    judge.at_most(
        "bad_rows",
        newest["bad_share"] - usual,
        f"{_percent(newest['bad_share'])} of the rows of span {name} could not be used, "
        f"{_percent(usual)} at most in the spans before it",
        more=True,
    )
    busiest, before = newest["busiest_person"], max(span["busiest_person"] for span in earlier)
    if busiest >= config.min_events and before:
        judge.at_most(
            "busiest_person",
            busiest / before,
            f"One person has {busiest:,} events in span {name}; {before:,} was the most in the "
            "spans before it",
        )
    if not enough:
        return judge.findings
    for rail, key, words in (
        ("new_items", "new_item_share", "of the events of span {} are on items"),
        ("new_people", "new_people_share", "of the people of span {} are people"),
    ):
        known = _known(earlier, key)
        if known:
            judge.at_most(
                rail,
                newest[key] - max(known),
                f"{_percent(newest[key])} {words.format(name)} that are new in the window; "
                f"{_percent(max(known))} at most in the spans before it",
                more=True,
            )
    for rail, what in (
        ("item_drift", "items by popularity"),
        ("activity_drift", "people by their number of events"),
        ("gap_drift", "times between two events of a person"),
    ):
        known = _known(earlier, rail)
        if known and newest[rail] is not None:
            judge.at_most(
                rail,
                newest[rail] - max(known),
                f"The Jensen-Shannon divergence of span {name} from the spans before it, over "
                f"{what}, is {newest[rail]:.3f}; {max(known):.3f} was the largest before",
                more=True,
            )
    return judge.findings


def _known(earlier: Sequence[Measures], key: str) -> list[float]:
    """Returns a measure of the spans just before the newest, without those that lack it."""
    return [span[key] for span in earlier[-_WITH_A_PAST:] if span[key] is not None]


def judge_log(
    report: Measures, accepted: Measures | None, config: DataRailsConfig
) -> list[Finding]:
    """Compares a log without a window with the log that was accepted last.

    Args:
      report: The result of ``log_measures``.
      accepted: The same for the log accepted last; None if there is none.
      config: The limits.

    Returns:
      A finding for each rail that could be checked.
    """
    judge = _Judge(config)
    judge.at_most(
        "future_events",
        report["future_share"],
        f"{_percent(report['future_share'])} of the events lie in the future",
    )
    if accepted is None:
        return judge.findings
    events, before = report["events"], accepted["events"]
    # There is no upper limit, because people often try a part of their log first.
    judge.at_least_events(events, "The log", before, "the log last accepted")
    judge.at_most(
        "bad_rows",
        report["bad_share"] - accepted["bad_share"],
        f"{_percent(report['bad_share'])} of the rows could not be used, "
        f"{_percent(accepted['bad_share'])} in the log last accepted",
        more=True,
    )
    return judge.findings


def judge_features(
    divergences: Mapping[tuple[str, str], float], config: DataRailsConfig
) -> list[Finding]:
    """Checks how far the features are from the statistics that were accepted last.

    Args:
      divergences: Jensen-Shannon divergence by split and feature.
      config: The limits.

    Returns:
      A finding for each feature.
    """
    judge = _Judge(config)
    for (split, feature), divergence in sorted(divergences.items()):
        judge.at_most(
            "feature_drift",
            divergence,
            f"The Jensen-Shannon divergence of the feature {feature} of split {split} from the "
            f"data last accepted is {divergence:.3f}",
        )
    return judge.findings


def log_measures(report: Measures) -> dict[str, float]:
    """Returns the measures that are stored if the data is accepted, from the ingest report."""
    counts = report["tables"]["interactions"]
    future = sum(report.get("future_events", {}).values())
    valid = report["events"]["valid"]
    return {
        "events": valid,
        "bad_share": sum(counts["bad"].values()) / counts["read"],
        "future_share": future / valid,
    }


class _Judge:
    """Collects findings."""

    def __init__(self, config: DataRailsConfig):
        self._config = config
        self.findings: list[Finding] = []

    def at_most(self, rail: str, value: float, message: str, *, more: bool = False) -> None:
        """Checks that ``value`` is at most the rail's limit; ``more`` if it is a difference."""
        limit = getattr(self._config, rail)
        allowed = f"{limit:g}{' more' if more else ''}"
        text = f"{message}; at most {allowed} is allowed"
        self.findings += self._config.finding(rail, text, value > limit)

    def at_least_events(self, events: int, what: str, fewest: int, others: str) -> None:
        """Checks that the number of events is not far below ``fewest``."""
        factor = self._config.least_events
        self.findings += self._config.finding(
            "least_events",
            f"{what} has {events:,} events; expected at least {factor:g} times the {fewest:,} "
            f"of {others}",
            events < factor * fewest,
        )

    def at_most_events(self, events: int, what: str, most: int, others: str) -> None:
        """Checks that the number of events is not far above ``most``."""
        factor = self._config.most_events
        self.findings += self._config.finding(
            "most_events",
            f"{what} has {events:,} events; expected at most {factor:g} times the {most:,} of "
            f"{others}",
            events > factor * most,
        )


def _percent(share: float) -> str:
    return f"{share:.1%}"
