"""Values of changed items for the features by which requests filter.

A version has a *column* for each such feature (``contract.live_catalogue``). This module turns the
features of changes into the inputs of the version's functions.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from contract import live_catalogue as names
from contract.catalogue_changes import Change


@dataclasses.dataclass(frozen=True)
class LiveColumn:
    """A column of a version.

    Attributes:
      name: Its name.
      feature: The feature whose values it has.
      is_numeric: Whether these are numbers and not texts.
    """

    name: str
    feature: str
    is_numeric: bool

    def given(self, change: Change) -> list[bytes] | list[float] | None:
        """Returns the values that a change sets; None if it keeps those of the push."""
        if change.features is None:
            return None
        value = change.features.get(self.feature, ())
        if isinstance(value, tuple):
            return [text.encode() for text in dict.fromkeys(value)]
        return [value]


def columns_of(features: Mapping[str, str], described: Collection[str]) -> list[LiveColumn]:
    """Returns the columns of a version.

    Args:
      features: The feature of each column.
      described: Names of the inputs of ``describe_items``, which takes no numbers.
    """
    return [
        LiveColumn(name, feature, names.given_names(name) not in described)
        for name, feature in features.items()
    ]


def inputs_to_describe(
    columns: Sequence[LiveColumn], changes: Sequence[Change]
) -> dict[str, np.ndarray]:
    """Returns the inputs of ``describe_items`` for the columns."""
    return {
        names.given_names(column.name): _padded(
            [column.given(change) or () for change in changes], b"", object
        )
        for column in columns
        if not column.is_numeric
    }


def inputs_to_apply(
    columns: Sequence[LiveColumn],
    changes: Sequence[Change],
    described: Mapping[str, np.ndarray],
    written: Sequence[int],
) -> dict[str, np.ndarray]:
    """Returns the inputs of ``apply_changes`` for the columns.

    Args:
      columns: The columns.
      changes: M changes.
      described: The outputs of ``describe_items`` for them.
      written: Which of the changes are written to slots.
    """
    inputs = {}
    for column in columns:
        pushed = described[names.pushed_values(column.name)]
        given = [column.given(change) for change in changes]
        if column.is_numeric:
            rows = [_numbers(pushed, index, values) for index, values in enumerate(given)]
            padding: float | int = np.nan
        else:
            new: dict[Any, int] = {}
            next_number = int(described[names.num_names(column.name)]) + 1
            known = described[names.numbers_of_names(column.name)]
            rows = [
                [number for number in pushed[index].tolist() if number]
                if values is None
                else [
                    int(number) or new.setdefault(value, next_number + len(new))
                    for value, number in zip(values, known[index], strict=False)
                ]
                for index, values in enumerate(given)
            ]
            padding = 0
            new_names = np.empty(len(new), object)
            new_names[:] = list(new)
            inputs[names.new_names(column.name)] = new_names
        table = _padded(rows, padding, pushed.dtype)
        inputs[names.new_values(column.name)] = table[np.array(written, np.int64)]
    return inputs


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins outputs of ``describe_items``; tables of one column may have different widths."""
    if len(parts) == 1:
        return dict(parts[0])
    found = {}
    for name, first in parts[0].items():
        arrays = [part[name] for part in parts]
        if first.ndim == 0:
            found[name] = first
            continue
        if first.ndim == 2:
            width = max(array.shape[1] for array in arrays)
            padding = np.nan if first.dtype.kind == "f" else 0
            arrays = [
                np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=padding)
                for array in arrays
            ]
        found[name] = np.concatenate(arrays)
    return found


def _numbers(pushed: np.ndarray, index: int, values: Sequence[Any] | None) -> list[float]:
    if values is not None:
        return [float(value) for value in values]
    return pushed[index][~np.isnan(pushed[index])].tolist()


def _padded(rows: Sequence[Sequence[Any]], padding: Any, dtype: Any) -> np.ndarray:
    table = np.full([len(rows), max(map(len, rows), default=0)], padding, dtype)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
