"""Reads an items file in the same way as ExampleGen, but in this process."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from components.example_gen.config import ItemsConfig
from components.example_gen.errors import DataError
from components.example_gen.files import resolve
from components.example_gen.forgotten import NOBODY, Forgotten
from components.example_gen.readers import read_blocks
from components.example_gen.records import catalogue_examples, entity_table
from components.example_gen.rows import FEATURE_PREFIX, ID, TITLE, check_items, entity_columns


@dataclasses.dataclass(frozen=True)
class Items:
    """Rows of an items file, one per id.

    Attributes:
      ids: The item ids, [M].
      titles: The titles, [M]; b"" for an item without one.
      categories: The category names of each item, [M].
      examples: The catalogue rows as serialized tf.train.Examples, [M].
      features: For each side feature, the values of each item, [M]: bytes or numbers.
    """

    ids: list[bytes]
    titles: list[bytes]
    categories: list[list[bytes]]
    examples: list[bytes]
    features: dict[str, list[list[Any]]]

    def __len__(self) -> int:
        return len(self.ids)


def read_items(
    files: Sequence[str],
    config: ItemsConfig,
    max_bad_row_fraction: float,
    forgotten: Forgotten = NOBODY,
) -> Items:
    """Reads and checks items.

    Args:
      files: Paths or globs of files in the format that ``config`` names.
      config: Names the columns and features; its own ``files`` are ignored.
      max_bad_row_fraction: Largest share of bad rows that is accepted.
      forgotten: Items to leave out.

    Raises:
      DataError: if a file cannot be read or lacks a column, if too many rows are
        bad, or if the files contain no items.
    """
    config = dataclasses.replace(config, files=tuple(files))
    good: list[pa.Table] = []
    bad: list[str] = []
    num_read = 0
    for file in resolve(config):
        for block in read_blocks(file.path, config, entity_columns(config)):
            checked = check_items(block, config, file.path, forgotten)
            good.append(checked.good)
            bad += [row for rows in checked.bad.values() for row in rows]
            num_read += checked.num_read
    if len(bad) > max_bad_row_fraction * num_read:
        raise DataError(
            f"{len(bad)} of {num_read} rows of {list(files)} are bad, more than "
            f"data.max_bad_row_fraction ({max_bad_row_fraction}) allows. The first: {bad[0]}"
        )
    if not any(table.num_rows for table in good):
        raise DataError(f"{list(files)} hold no item")
    table, _, _ = entity_table(pa.concat_tables(good), config.features)
    category = FEATURE_PREFIX + config.category if config.category else ""
    titles = table[TITLE].to_pylist() if TITLE in table.column_names else [None] * len(table)
    categories = table[category].to_pylist() if category else [None] * len(table)
    return Items(
        ids=[text.encode() for text in table[ID].to_pylist()],
        titles=[values[0] if values else b"" for values in titles],
        categories=[values or [] for values in categories],
        examples=list(catalogue_examples(table)),
        features={
            name: [values or [] for values in table[FEATURE_PREFIX + name].to_pylist()]
            for name in config.features
        },
    )
