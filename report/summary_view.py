"""The wording of a run summary: texts and derived figures that all its views share.

The summary itself is made in ``report.run_summary``. Nothing here imports TensorFlow, so a view can
be created from any ``summary.json``.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from contract import guard_rails
from contract.evaluation_outputs import OVERALL, RECENT_DAYS
from contract.features import EVAL, HISTORY_LENGTH_BUCKET, TEST, TRAIN
from contract.manifest import CONFIG, EXACT, SCANN_HASHED, SCANN_TREE
from contract.metric_names import (
    COVERAGE,
    HISTORY_INCLUDED,
    HIT_RATE,
    MRR,
    NDCG,
    PERSONAL_FREQUENCY,
    POPULARITY,
    RECALL,
    parse_metric_name,
    recent_popularity,
)
from contract.metric_names import metric_name as contract_name
from contract.release import NOT_PUSHED_BECAUSE, WITHDRAWN_VERSION
from contract.signatures import NO_INTEREST, interest_number

# In the order in which they are shown.
RANKERS = {
    "mind": "MIND (this run)",
    "pushed": "Last pushed",
    "item_knn": "Item-kNN",
    POPULARITY: "Popularity",
    **{recent_popularity(days): f"Popularity, {days} d" for days in RECENT_DAYS},
    PERSONAL_FREQUENCY: "Personal frequency",
}
SPLITS = (TRAIN, EVAL, TEST)
QUANTITIES = {RECALL: "Recall", NDCG: "NDCG", HIT_RATE: "Hit rate"}

_WORDS = {**QUANTITIES, COVERAGE: "Coverage", MRR: "MRR"}
_STOPPED_BY = {
    "patience": "early stopping",
    "max_steps": "step limit",
    "max_seconds": "time limit",
}
_REMOVED = {
    "runs": "run",
    "artifacts": "artifact",
    "versions": "version",
    "spans": "kept file",
}
_ALGORITHMS = {
    EXACT: "Exact",
    SCANN_HASHED: "ScaNN, hashed",
    SCANN_TREE: "ScaNN, tree, hashed",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % confidence interval.

    Attributes:
      value: Point estimate.
      low: Lower end of the interval; None if there is no interval.
      high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Gate:
    """One condition between the trained model and the served one.

    Attributes:
      condition: The condition, as text.
      measured: What was measured, as text.
      passed: Whether it held.
    """

    condition: str
    measured: str
    passed: bool


def estimate(
    metrics: Mapping[str, Any], ranker: str, metric: str, slice_name: str = OVERALL
) -> Estimate | None:
    """Returns one figure of the summary's ``metrics``; None if it was not measured."""
    found = metrics.get(ranker, {}).get(slice_name, {}).get(metric) or {}
    if "value" not in found:
        return None
    name = parse_metric_name(metric)
    # Resampling leaves out people and hence items, so the interval of coverage would be biased.
    if "low" not in found or name.quantity == COVERAGE:
        return Estimate(found["value"])
    if name.is_lift:
        return Estimate(found["value"], found["low"], found["high"])
    # All others are shares; the evaluator's intervals are symmetric and may extend beyond 0 or 1.
    return Estimate(found["value"], max(found["low"], 0.0), min(found["high"], 1.0))


def with_history(primary_metric: str) -> bool:
    """Whether the primary ranking keeps people's own items among the candidates."""
    return parse_metric_name(primary_metric).history_included


def metric_name(quantity: str, cutoff: int | None, history_included: bool) -> str:
    """Returns the name of a quantity in ``metrics``, such as ``ndcg_at_50`` or ``mrr``."""
    # Coverage is measured only on the primary ranking, so it has a single name.
    is_qualified = history_included and quantity != COVERAGE
    return contract_name(quantity, cutoff, HISTORY_INCLUDED if is_qualified else "")


def metric_label(name: str) -> str:
    """Formats a metric's name for people: ``ndcg_at_50_history_included`` becomes NDCG@50."""
    parsed = parse_metric_name(name)
    word = _WORDS.get(parsed.quantity, _spaced(parsed.quantity))
    label = word if parsed.cutoff is None else f"{word}@{parsed.cutoff}"
    label += f", {_spaced(parsed.rest)}" if parsed.rest else ""
    return f"{label} above popularity" if parsed.is_lift else label


def cutoffs(metrics: Mapping[str, Any]) -> list[int]:
    """Returns all N for which Recall@N was measured, ascending."""
    names = [(name, parse_metric_name(name)) for name in metrics.get("mind", {}).get(OVERALL, {})]
    return sorted(
        parsed.cutoff
        for name, parsed in names
        if parsed.cutoff is not None and name == contract_name(RECALL, parsed.cutoff)
    )


def dropped_events(data: Mapping[str, Any]) -> dict[str, int]:
    """Counts events that were read but not kept, by reason; only reasons that occurred."""
    events = data["events"]
    reasons = {
        **{_spaced(k): v for k, v in data["tables"]["interactions"]["bad"].items()},
        "person or item forgotten": data["tables"]["interactions"].get("forgotten", 0),
        "duplicate": events["dropped_duplicates"],
        "item too rare": events["dropped_rare_items"],
        "person with too few events": events["dropped_inactive_users"],
        "person with too many events": events.get("dropped_beyond_limit", 0),
    }
    return {reason: count for reason, count in reasons.items() if count}


def window(data: Mapping[str, Any]) -> str:
    """Describes which spans of the log were read; empty if the run reads no window."""
    read = data.get("window")
    if not read:
        return ""
    spans = read["spans"]
    now = sum(span["read_now"] for span in spans)
    text = (
        f"{spans[0]['name']} to {spans[-1]['name']}, {len(spans):,} spans: {now:,} read now, "
        f"{len(spans) - now:,} kept from earlier runs"
    )
    if missing := read["missing"]:
        text += f"; {len(missing):,} missing: {_few(missing)}"
    return text


def data_notes(data: Mapping[str, Any]) -> list[str]:
    """Returns sentences about the input that a person should know; they name the file."""
    files = data.get("files", {})
    notes = [
        f"{count:,} events in {path} lie in the future; check `timestamp_unit`."
        for path, count in sorted(data.get("future_events", {}).items())
    ]
    for table in ("items", "users"):
        counts = data["tables"].get(table)
        if not counts:
            continue
        where = f"{table} ({_few(files.get(table, []))})"
        if bad := sum(counts["bad"].values()):
            notes.append(f"{bad:,} rows of {where} are set apart in {data['bad_rows']}.")
        if repeated := counts.get("duplicate_ids"):
            notes.append(
                f"{repeated:,} rows of {where} repeat an id; only the first row of each id counts."
            )
        for name, failures in sorted(counts.get("unparsable_numbers", {}).items()):
            notes.append(
                f"{failures:,} values of the numeric feature {name!r} of {where} are not numbers "
                "and count as missing."
            )
    if (gaps := data["catalogue"]["not_in_items_file"]) and "items" in data["tables"]:
        notes.append(
            f"{gaps:,} of {data['catalogue']['items']:,} items in the catalogue are not in the "
            f"items table ({_few(files.get('items', []))}), so they have neither title nor side "
            "features."
        )
    return notes


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """Returns the guard rails' warnings, as sentences."""
    return [f"{f.message} ({f.rail})." for f in guard_rails.warnings(_findings(summary))]


def not_counted(summary: Mapping[str, Any]) -> str:
    """Returns a sentence about test targets that the primary ranking omits; empty if none."""
    test = (summary["data"] or {}).get("splits", {}).get("test", {})
    share = test.get("repeated_share", 0.0)
    if with_history(summary["primary_metric"]) or not share:
        return ""
    return (
        f"{share:.1%} of the {test['targets']:,} test targets are not counted: the person had "
        "these items before, and evaluation.exclude_history is true. Where people repeat, set "
        "evaluation.exclude_history=false and index.exclude_history=false."
    )


def index_note(summary: Mapping[str, Any]) -> str:
    """Returns a sentence if recall was measured at a smaller cutoff than configured; else empty."""
    index, facts = summary["index"], summary["manifest"]
    if not index or not facts:
        return ""
    wanted, measured = facts[CONFIG]["index"]["recall_k"], index["recall_k"]
    if measured >= wanted:
        return ""
    return (
        f"index.recall_k is {wanted}, but an answer has at most {measured} items (the size of the "
        f"catalogue, or index.max_k): recall was measured at {measured}."
    )


def gates(summary: Mapping[str, Any]) -> list[Gate]:
    """Returns the conditions of the blessing, and what was measured for each."""
    blessing, metrics = summary["blessing"], summary["metrics"]
    if not blessing:
        return []
    found = []
    for name, limits in blessing["thresholds"].items():
        candidate = estimate(metrics, "mind", name)
        pushed = estimate(metrics, "pushed", name)
        label = metric_label(name)
        if candidate is None:
            found.append(Gate(f"{label} is measured", "not measured", False))
            continue
        if "above" in limits:
            condition = f"{label} by more than {limits['above']:g}"
            passed = candidate.value > limits["above"]
            found.append(Gate(condition, _difference(candidate.value), passed))
        if "at_least_pushed_minus" in limits and pushed is not None:
            allowed = limits["at_least_pushed_minus"]
            change = candidate.value - pushed.value
            condition = f"{label} at most {allowed:g} below the last pushed model"
            found.append(Gate(condition, _difference(change), change >= -allowed))
    return found


def verdict(summary: Mapping[str, Any]) -> str:
    """Returns one sentence about the outcome for the trained model."""
    blessing, push, index = summary["blessing"], summary["push"], summary["index"]
    if push["pushed"]:
        served = push.get("in_service") or push["version"]
        elsewhere = f"; version {served} is in service" if served != push["version"] else ""
        return f"Blessed and pushed as version {push['version']}{elsewhere}"
    if blessing is None:
        return "Not evaluated, not pushed"
    if not blessing["blessed"]:
        return "Not blessed, not pushed"
    if guard_rails.stopping(_findings(summary)):
        return "Held back by a guard rail, not pushed"
    if index is not None and not index["blessed"]:
        return "Blessed, but the index was refused: not pushed"
    if version := push.get(WITHDRAWN_VERSION):
        return f"Blessed, but withdrawn as version {version}: not pushed"
    return "Blessed, not pushed"


def why_not_pushed(summary: Mapping[str, Any]) -> list[str]:
    """Returns the reasons as sentences; empty if the model was pushed."""
    if summary["push"]["pushed"]:
        return []
    failed = [
        f"Required: {gate.condition}; measured: {gate.measured}"
        for gate in gates(summary)
        if not gate.passed
    ]
    reasons = failed or list((summary["blessing"] or {}).get("reasons", []))
    reasons += [f"{f.message} ({f.rail})" for f in guard_rails.stopping(_findings(summary))]
    reasons += (summary.get("final_training") or {}).get("reasons", [])
    reasons = reasons + list((summary["index"] or {}).get("reasons", []))
    withdrawn = summary["push"].get(NOT_PUSHED_BECAUSE)
    return [*reasons, withdrawn] if withdrawn else reasons


def guard_rail_findings(summary: Mapping[str, Any]) -> list[guard_rails.Finding]:
    """Returns the findings of all guard rails that were checked, those that tripped first."""
    return sorted(_findings(summary), key=lambda f: (not f.tripped, not f.stops))


def _findings(summary: Mapping[str, Any]) -> list[guard_rails.Finding]:
    found = summary.get("guard_rails") or {}
    return [
        guard_rails.Finding(**values)
        for gate in ("data", "model", "final")
        for values in found.get(gate) or []
    ]


def stopped_by(reason: str) -> str:
    """Reads ``TrainingResult.stopped_by``."""
    return _STOPPED_BY.get(reason, _spaced(reason))


def algorithm(name: str) -> str:
    """Formats the algorithm that the index's manifest names."""
    return _ALGORITHMS.get(name, _spaced(name))


def item_name(item: Mapping[str, Any]) -> str:
    """Returns the title of an item, or its id if it has no title."""
    return item["title"] or item["item_id"]


def interest_name(interest: int) -> str:
    """Returns the name of a group of recommendations."""
    if interest == NO_INTEREST:
        return "Most popular"
    return f"Interest {interest_number(interest)}"


def hits(person: Mapping[str, Any]) -> set[str]:
    """Returns the ids of recommended items that are among the person's held-out items."""
    held_out = {item["item_id"] for item in person["targets"]}
    return {i["item_id"] for g in person["interests"] for i in g["items"]} & held_out


def removed(summary: Mapping[str, Any]) -> str:
    """Describes what the run removed from earlier ones; empty if it removed nothing."""
    found = summary.get("removed")
    if not found:
        return ""
    counts = [
        f"{found[key]:,} {noun}{'' if found[key] == 1 else 's'}"
        for key, noun in _REMOVED.items()
        if found[key]
    ]
    text = ", ".join([*counts, size(found["bytes"])]) if counts or found["bytes"] else ""
    if failed := found["failed"]:
        text += f"{'; ' if text else ''}could not be removed: {_few(failed)}"
    return text


def duration(seconds: float) -> str:
    """Formats a duration in a suitable unit; shows tenths only of a float."""
    if round(seconds, 1) < 60:
        return f"{seconds} s" if isinstance(seconds, int) else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float) -> str:
    """Formats a size in decimal units."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def history_buckets(metrics: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Returns the slices by history length as (slice name, label), shortest first."""
    found = []
    for name in metrics.get("mind", {}):
        key, _, label = name.partition("=")
        if key == HISTORY_LENGTH_BUCKET:
            found.append((name, label))
    return sorted(found, key=lambda pair: int(pair[1].rstrip("+").partition("-")[0]))


def _few(paths: Sequence[str]) -> str:
    """Lists one or two names, or the first of many and the number of others."""
    return ", ".join(paths) if len(paths) <= 2 else f"{paths[0]} and {len(paths) - 1} more"


def _difference(value: float) -> str:
    return f"{abs(value):.4f} {'above' if value >= 0 else 'below'}"


def _spaced(text: str) -> str:
    return text.replace("_", " ")
