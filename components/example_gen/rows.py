"""Checks the rows of a table, and separates the unusable ones together with the reasons."""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from components.example_gen.config import InteractionsConfig, ItemsConfig, UsersConfig
from components.example_gen.forgotten import NOBODY, Forgotten, Kind
from components.example_gen.readers import Block
from components.example_gen.text import Text, is_blank, to_text
from components.example_gen.timestamps import parse_timestamps

# Columns of a checked table.
USER = "user"
ITEM = "item"
TIME = "time"
ID = "id"
TITLE = "title"
FEATURE_PREFIX = "feature:"
# Replaces the text of a row that could not be parsed, if there is a list of forgotten ids.
_NOT_SHOWN = "not shown, because it may contain ids of people or items that were forgotten"
# Joins the elements of a list cell until the cell is split again.
LIST_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class CheckedRows:
    """The rows of one block, separated into good and bad rows.

    Attributes:
      good: Usable rows, in file order.
      first_row: Number of the block's first row, by which the blocks of a file are ordered.
      bad: By reason, one JSON line for each unusable row with ``reason``, ``table``,
        ``file``, ``row`` and the ``raw`` content.
      num_forgotten: Number of rows that were left out because they concern forgotten
        people or items.
    """

    good: pa.Table
    first_row: int
    bad: dict[str, list[str]]
    num_forgotten: int = 0

    @property
    def num_read(self) -> int:
        """The number of all rows of the block: good, bad and left out."""
        return self.good.num_rows + sum(map(len, self.bad.values())) + self.num_forgotten


def check_interactions(
    block: Block, config: InteractionsConfig, file: str, forgotten: Forgotten = NOBODY
) -> CheckedRows:
    """Checks events. Good rows have the columns ``USER``, ``ITEM`` and ``TIME``."""
    user = to_text(block.columns[config.user_column])
    item = to_text(block.columns[config.item_column])
    time = block.columns[config.timestamp_column]
    seconds, problems = parse_timestamps(time, config.timestamp_unit)
    reasons: dict[str, np.ndarray] = {
        "not_utf8": user.not_utf8 | item.not_utf8,
        "missing_user_id": is_blank(user.values),
        "missing_item_id": is_blank(item.values),
        "id_not_whole": user.not_whole | item.not_whole,
        **{str(reason): rows for reason, rows in problems.items()},
    }
    table = pa.table({USER: user.values, ITEM: item.values, TIME: seconds})
    left_out = forgotten.is_listed("users", user.values)
    left_out |= forgotten.is_listed("items", item.values)
    return _set_apart(block, table, reasons, "interactions", file, forgotten, left_out)


def check_items(
    block: Block, config: ItemsConfig, file: str, forgotten: Forgotten = NOBODY
) -> CheckedRows:
    """Checks items. Good rows have ``ID``, ``TITLE`` if configured, and the features' text."""
    columns = {FEATURE_PREFIX + name: f.column for name, f in config.features.items()}
    if config.title_column:
        columns[TITLE] = config.title_column
    return _check_entities(block, config.id_column, columns, "items", file, forgotten)


def check_users(
    block: Block, config: UsersConfig, file: str, forgotten: Forgotten = NOBODY
) -> CheckedRows:
    """Checks people. Good rows have ``ID`` and the features' text."""
    columns = {FEATURE_PREFIX + name: f.column for name, f in config.features.items()}
    return _check_entities(block, config.id_column, columns, "users", file, forgotten)


def interaction_columns(config: InteractionsConfig) -> dict[str, str]:
    """Returns the columns that are needed for events, by configuration key."""
    return {
        "user_column": config.user_column,
        "item_column": config.item_column,
        "timestamp_column": config.timestamp_column,
    }


def entity_columns(config: ItemsConfig | UsersConfig) -> dict[str, str]:
    """Returns the columns that are needed for items or people, by configuration key."""
    columns = {"id_column": config.id_column}
    if isinstance(config, ItemsConfig) and config.title_column:
        columns["title_column"] = config.title_column
    columns.update({f"features.{name}.column": f.column for name, f in config.features.items()})
    return columns


def _check_entities(
    block: Block,
    id_column: str,
    columns: dict[str, str],
    table_name: Kind,
    file: str,
    forgotten: Forgotten,
) -> CheckedRows:
    ids = to_text(block.columns[id_column])
    others: dict[str, Text] = {
        name: to_text(block.columns[column], LIST_SEPARATOR) for name, column in columns.items()
    }
    not_utf8 = ids.not_utf8.copy()
    for text in others.values():
        not_utf8 |= text.not_utf8
    reasons = {
        "not_utf8": not_utf8,
        "missing_id": is_blank(ids.values),
        "id_not_whole": ids.not_whole,
    }
    table = pa.table({ID: ids.values, **{name: text.values for name, text in others.items()}})
    left_out = forgotten.is_listed(table_name, ids.values)
    return _set_apart(block, table, reasons, table_name, file, forgotten, left_out)


def _set_apart(
    block: Block,
    table: pa.Table,
    reasons: dict[str, np.ndarray],
    table_name: str,
    file: str,
    forgotten: Forgotten,
    left_out: np.ndarray,
) -> CheckedRows:
    names = list(reasons)
    # Only the first reason that applies is reported.
    first = np.select(list(reasons.values()), range(len(names)), default=-1)
    if forgotten:
        left_out |= (first >= 0) & _names_anybody(block.columns, first >= 0, forgotten)
    rows = np.flatnonzero((first >= 0) & ~left_out)
    bad: dict[str, list[str]] = defaultdict(list)

    def reject(reason: str, row: int, raw: Any) -> None:
        record = {"reason": reason, "table": table_name, "file": file, "row": int(row), "raw": raw}
        bad[reason].append(json.dumps(record, ensure_ascii=False, default=_readable))

    if len(rows):
        raw = _as_bytes(block.columns.take(pa.array(rows))).to_pylist()
        for index, cells in zip(rows, raw, strict=True):
            reject(names[first[index]], block.row_numbers[index], cells)
    if len(rows) or left_out.any():
        table = table.filter(pa.array((first < 0) & ~left_out))
    for rejected in block.rejected:
        # The row could not be parsed, so it is unknown which of its bytes are ids.
        reject(rejected.reason, rejected.row, _NOT_SHOWN if forgotten else rejected.raw)
    first_row = int(block.row_numbers[0]) if len(block.row_numbers) else 0
    return CheckedRows(table, first_row, dict(bad), int(left_out.sum()))


def _names_anybody(columns: pa.Table, rows: np.ndarray, forgotten: Forgotten) -> np.ndarray:
    """Returns which of ``rows`` contain a forgotten id in any cell."""
    found = np.zeros(len(rows), bool)
    places = np.flatnonzero(rows)
    for column in columns.columns:
        cells = to_text(column.take(pa.array(places)), LIST_SEPARATOR).values.to_pylist()
        for place, cell in zip(places, cells, strict=True):
            parts = {cell, cell.strip(), *cell.split(LIST_SEPARATOR)} if cell else set()
            found[place] |= forgotten.is_in_any(parts)
    return found


def _as_bytes(table: pa.Table) -> pa.Table:
    """Returns the table with text as bytes, because text in a file need not be valid UTF-8."""
    fields = [
        field.with_type(pa.binary()) if pa.types.is_string(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _readable(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)
