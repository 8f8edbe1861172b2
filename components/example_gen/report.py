"""The ingest report: what was read, what was dropped and why, and what was written."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from components.example_gen.config import DataConfig, ItemsConfig, UsersConfig
from components.example_gen.errors import DataError
from components.example_gen.spans import Window
from contract import features

FILE_NAME = "ingest_report.json"
# The key of the number of a table's rows that were left out; absent if there are none.
FORGOTTEN = "forgotten"
_HINTS = {
    "not_utf8": "set the table's `encoding`, for example latin-1",
    "wrong_number_of_columns": "check `delimiter` and `quoting`",
    "unclosed_quote": "set `quoting: false` if quotes are ordinary characters",
    "unparsable_json": "every line must be one JSON object",
    "unparsable_timestamp": "check `timestamp_unit`: s, ms, us, or iso for text",
    "timestamp_out_of_range": "check `timestamp_unit`: these look like ms or us",
    "negative_timestamp": "check `timestamp_unit` and `timestamp_column`",
    "id_not_whole": "write ids as text or whole numbers",
    "id_not_single": "an id must be one number or text, not a list or an object",
}

Report = dict[str, Any]


def merge(reports: Iterable[Report]) -> Report:
    """Merges reports.

    Numbers are summed, except for the keys ``first`` (the smallest value is kept) and
    ``last`` (the largest); lists are concatenated and sorted; dictionaries are merged key
    by key. The result therefore does not depend on the order of the reports.
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
    """Refuses data on which no model should be trained.

    Args:
      report: The merged report.
      data_config: The configuration with which the data was read.
      bad_rows: Path of the bad rows.

    Raises:
      DataError: if a file could not be read, too many rows are bad, no value of a
        numeric feature is a number, there are no events, the filters left nobody, or
        a split is empty.
    """
    check_readable(report)
    limit = data_config.max_bad_row_fraction
    for span, counts in report.get("spans", {}).items():
        _check_bad_rows(f"span {span}", counts, limit, bad_rows)
    for table, counts in report.get("tables", {}).items():
        _check_bad_rows(table, counts, limit, bad_rows)
    for table, config in (("items", data_config.items), ("users", data_config.users)):
        if config is not None:
            _check_numbers(table, config, report)
    events = report.get("events", {})
    if not events.get("valid"):
        counts = report.get("tables", {}).get("interactions", {"read": 0})
        raise DataError(
            f"The interaction files contain no usable events ({counts['read']} rows read, all of "
            f"them bad: {bad_rows})"
            if counts["read"]
            else "The interaction files contain no events: they are empty except for the header"
        )
    if not events.get("kept"):
        raise DataError(
            f"The filters left nobody: {report['users']['read']} people and "
            f"{report['items']['read']} items before, but none after "
            f"min_item_interactions = {data_config.min_item_interactions} and "
            f"min_user_interactions = {data_config.min_user_interactions}. Lower them"
        )
    for split in (features.TRAIN, features.EVAL, features.TEST):
        if not report["splits"].get(split, {}).get("sequences"):
            raise DataError(
                f"Split {split!r} is empty under the protocol "
                f"{data_config.split.protocol!r}: {report['users']['kept']} people with "
                f"{events['kept']} events are too few, or their histories too short. "
                "Provide more data, raise the split's fraction, or change the protocol"
            )


def check_readable(report: Report) -> None:
    """Raises a ``DataError`` if a file could not be read."""
    if report.get("unreadable"):
        raise DataError("\n".join(report["unreadable"]))


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
    lines.append("One of each:")
    lines += [f"  {rows[0]}" for _, rows in sorted(counts["bad_examples"].items())]
    lines.append(f"All of them: {bad_rows}")
    raise DataError("\n".join(lines))


def _check_numbers(table: str, config: ItemsConfig | UsersConfig, report: Report) -> None:
    unparsable = report.get("tables", {}).get(table, {}).get("unparsable_numbers", {})
    parsed = report.get("numbers", {}).get(table, {})
    for name, failures in unparsable.items():
        if not parsed.get(name):
            raise DataError(
                f"{table}.features.{name} is of `kind: numeric`, but none of the {failures} values "
                f"in column {config.features[name].column!r} of {', '.join(config.files)} is a "
                "number. Set `kind: categorical`, choose another column, or set `separator` if a "
                "cell holds several numbers"
            )


def finish(report: Report, bad_rows: str, files: Mapping[str, list[str]]) -> Report:
    """Returns the report in its final form, with shares of repeated targets and without bad rows.

    Args:
      report: A merged report that passed ``check``.
      bad_rows: Path of the bad rows, if there are any.
      files: The files of each table, in the order in which they were read.
    """
    tables = {
        name: {key: value for key, value in counts.items() if key != "bad_examples"}
        for name, counts in report["tables"].items()
    }
    splits = {split: dict(counts) for split, counts in report["splits"].items()}
    trained = splits[features.TRAIN]["events"]
    targets = 0
    for split in (features.EVAL, features.TEST):
        targets += splits[split]["targets"]
        splits[split]["repeated_share"] = (
            splits[split].pop("repeated_targets") / splits[split]["targets"]
        )
    events = {**report["events"], "history_only": report["events"]["kept"] - trained - targets}
    has_bad = any(sum(counts["bad"].values()) for counts in tables.values())
    return {
        **report,
        "tables": tables,
        "splits": splits,
        "events": events,
        "bad_rows": bad_rows if has_bad else "",
        "files": dict(files),
    }


def describe_window(window: Window, counts: Mapping[str, Report], read_now: set[str]) -> Report:
    """Returns the part of the report on the window that the run read.

    Args:
      window: The window.
      counts: Numbers of all rows and of bad rows, by span.
      read_now: Spans of which this run read a file; the events of the others had been
        stored by earlier runs.
    """
    return {
        "spans": [
            {
                "name": span.name,
                "files": [file.path for file in span.files],
                "rows": counts[span.name]["read"],
                "bad_rows": sum(counts[span.name]["bad"].values()),
                "read_now": span.name in read_now,
            }
            for span in window.spans
        ],
        "missing": list(window.missing),
    }


def from_json(text: str) -> Report:
    """Reads what ``to_json`` wrote."""
    return json.loads(text)


def to_json(report: Report) -> str:
    """Returns the report as indented JSON with sorted keys."""
    return json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False)
