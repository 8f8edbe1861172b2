"""The ingest report: what was read, what was dropped and why, what came out."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from components.example_gen.config import DataConfig, ItemsConfig, UsersConfig
from components.example_gen.errors import DataError
from components.example_gen.spans import Window
from contract import features

FILE_NAME = "ingest_report.json"
# Key of the number of rows of a table that were left out; only where there are any.
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
    "id_not_single": "an id is one number or text, no list and no object",
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
      DataError: if a file could not be read, too many rows are bad, a numeric
        feature holds no number, there is no event, the filters left nobody, or a
        split is empty.
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
            f"The interaction files hold no usable event ({counts['read']} rows read, all of them "
            f"bad: {bad_rows})"
            if counts["read"]
            else "The interaction files hold no event: they are empty but for their header"
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


def check_readable(report: Report) -> None:
    """Raises ``DataError`` if a file could not be read."""
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
    """The report as people read it: shares instead of sums, no rows in it.

    Args:
      report: A merged report that passed ``check``.
      bad_rows: Where the bad rows were written, if there are any.
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
    """What the run read of the log.

    Args:
      window: Its spans.
      counts: Rows read, good and bad, by span.
      read_now: Spans of which this run read a file; what was read of the others had
        been kept.
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
    """The report as indented JSON with sorted keys."""
    return json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False)
