"""The ingest report: what was read, what was dropped and why, what came out."""

import json
from collections.abc import Iterable
from typing import Any

from components.example_gen.config import DataConfig
from components.example_gen.errors import DataError
from model import features

FILE_NAME = "ingest_report.json"
_EXAMPLES_PER_REASON = 3
_HINTS = {
    "not_utf8": "set the table's `encoding` (for example latin-1)",
    "wrong_number_of_columns": "check `delimiter` and `quoting`",
    "unparsable_timestamp": "check `timestamp_unit` (s, ms, us, or iso for text)",
    "timestamp_out_of_range": "check `timestamp_unit`: these look like ms or us",
    "negative_timestamp": "check `timestamp_unit` and `timestamp_column`",
    "id_not_whole": "write ids as text or whole numbers",
}

Report = dict[str, Any]


def merge(reports: Iterable[Report]) -> Report:
    """Adds up reports.

    Numbers are summed, except the values of ``first`` (smallest) and ``last``
    (largest); lists are joined and sorted; dictionaries are merged key by key. So
    the order of merging makes no difference.
    """
    merged: Report = {}
    for report in reports:
        for key, value in report.items():
            if key not in merged:
                merged[key] = merge([value]) if isinstance(value, dict) else value
            elif isinstance(value, dict):
                merged[key] = merge([merged[key], value])
            elif isinstance(value, list):
                merged[key] = sorted(merged[key] + value)
            elif key == "first":
                merged[key] = min(merged[key], value)
            elif key == "last":
                merged[key] = max(merged[key], value)
            else:
                merged[key] += value
    return merged


def check(report: Report, data_config: DataConfig, bad_rows: str) -> None:
    """Refuses data that no model should be trained on.

    Args:
      report: The merged report.
      data_config: With what the data was read.
      bad_rows: Where the bad rows were written.

    Raises:
      DataError: if a file could not be read, too many rows are bad, there is no
        event, the filters left nobody, or a split is empty.
    """
    if report.get("unreadable"):
        raise DataError("\n".join(report["unreadable"]))
    for table, counts in report.get("tables", {}).items():
        _check_bad_rows(table, counts, data_config.max_bad_row_fraction, bad_rows)
    events = report.get("events", {})
    if not events.get("valid"):
        raise DataError(
            "The interaction files hold no usable event "
            f"({report['tables']['interactions']['read']} rows read)"
        )
    if not events.get("kept"):
        raise DataError(
            f"The filters left nobody: {report['users']['read']} people and "
            f"{report['items']['read']} items before, none after "
            f"min_item_interactions = {data_config.min_item_interactions} and "
            f"min_user_interactions = {data_config.min_user_interactions}. Lower them"
        )
    for split in (features.TRAIN, features.EVAL, features.TEST):
        if not report["splits"].get(split, {}).get("sequences"):
            raise DataError(
                f"Split {split!r} is empty under the protocol "
                f"{data_config.split.protocol!r}: {report['users']['kept']} people with "
                f"{events['kept']} events are too few, or their histories too short. "
                "Give more data, raise the split's fraction, or change the protocol"
            )


def _check_bad_rows(table: str, counts: Report, limit: float, bad_rows: str) -> None:
    bad = sum(counts["bad"].values())
    if bad <= limit * counts["read"]:
        return
    lines = [
        f"{bad} of {counts['read']} rows of {table} are bad ({bad / counts['read']:.1%}); "
        f"max_bad_row_fraction is {limit:.1%}. By reason:"
    ]
    for reason, number in sorted(counts["bad"].items(), key=lambda pair: (-pair[1], pair[0])):
        hint = _HINTS.get(reason)
        lines.append(f"  {reason}: {number}" + (f" ({hint})" if hint else ""))
    lines.append("First of them:")
    lines += [f"  {row}" for row in counts["bad_examples"][:_EXAMPLES_PER_REASON]]
    lines.append(f"All of them: {bad_rows}")
    raise DataError("\n".join(lines))


def finish(report: Report, bad_rows: str) -> Report:
    """Adds what follows from the sums, and drops what was only needed for them."""
    tables = {
        name: {
            "read": counts["read"],
            "bad": dict(sorted(counts["bad"].items())),
            **{key: value for key, value in counts.items() if key not in _INTERNAL},
        }
        for name, counts in sorted(report.get("tables", {}).items())
    }
    splits = report.get("splits", {})
    for split in (features.EVAL, features.TEST):
        if split in splits:
            targets = splits[split]["targets"]
            splits[split]["repeated_share"] = (
                splits[split].pop("repeated_targets") / targets if targets else 0.0
            )
    return {**report, "tables": tables, "bad_rows": bad_rows}


_INTERNAL = {"read", "bad", "bad_examples"}


def from_json(text: str) -> Report:
    """Reads what ``to_json`` wrote."""
    return json.loads(text)


def to_json(report: Report) -> str:
    """The report as indented JSON with sorted keys."""
    return json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False)
