"""Adds the items of an items file to a trained tower."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from item_refresh.items_file import Items
from model.categories import category_table, number_table
from retrieval.tower import Tower, TowerThatEncodes, TowerWithCategories, TowerWithFilters

_ITEMS_AT_ONCE = 4096
# Encoding an item in a different batch changes at most the last bits of its vector.
_RELATIVE_TOLERANCE = 1e-4
_ABSOLUTE_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Changes:
    """Counts of what happened to the items. Each known item is changed, removed or unchanged.

    Attributes:
      added: New items that searches can find.
      added_without_vector: New items that searches cannot find, because none of their
        side features has a value that was seen in training.
      changed: Known items whose vector, title, categories or filter values differ from
        before. A vector changes when the side features change or when a removed item
        comes back.
      removed: Known items that searches could find before and cannot find now.
      unchanged: Known items whose title, categories and filter values are the same as
        before, and whose vector is identical bit for bit.
    """

    added: int
    added_without_vector: int
    changed: int
    removed: int
    unchanged: int


def total(done: Sequence[Changes]) -> Changes:
    """Adds up the counts of successive changes; an item may be counted in several of them."""
    fields = [field.name for field in dataclasses.fields(Changes)]
    sums = {name: sum(getattr(changes, name) for changes in done) for name in fields}
    return Changes(**{**sums, "unchanged": min(changes.unchanged for changes in done)})


def refresh_catalogue(tower: Tower, items: Items, remove_absent: bool) -> Changes:
    """Adds ``items`` to the catalogue of ``tower``, in place.

    New items are appended after the known ones, with a train count of 0. Known items
    take their vector, title, categories and filter values from the file.

    Args:
      tower: The Trainer's export, as stored in a pushed bundle.
      items: The rows of the items file.
      remove_absent: Whether to remove known items that the file lacks, by setting their
        vectors to zero so that searches no longer find them.

    Raises:
      ValueError: if the tower cannot encode items, because it comes from an older version
        or was trained without side features.
    """
    if not isinstance(tower, TowerThatEncodes):
        raise ValueError(
            "The pushed version cannot take new items: expected a tower with encode_items, which "
            "versions from before this feature lack. Run the pipeline once and refresh its push."
        )
    encoded = _encode(tower, items)
    ids = tower.item_ids.numpy()
    before = tower.item_vectors.numpy()
    row_of = {item: row for row, item in enumerate(ids)}
    rows = np.array([row_of.get(item, -1) for item in items.ids])
    is_new = rows < 0

    vectors = before.copy()
    is_same = np.isclose(
        encoded, before[rows], rtol=_RELATIVE_TOLERANCE, atol=_ABSOLUTE_TOLERANCE
    ).all(axis=1)
    differs = ~is_new & ~is_same
    vectors[rows[differs]] = encoded[differs]
    is_absent = np.ones(len(ids), bool)
    is_absent[rows[~is_new]] = False
    if remove_absent:
        vectors[is_absent] = 0.0
    new = encoded[is_new]

    titles_before = tower.item_titles.numpy()
    titles = titles_before.copy()
    titles[rows[~is_new]] = _objects(items.titles)[~is_new]
    tower.item_ids.assign(_strings([*ids, *_objects(items.ids)[is_new]]))
    tower.item_titles.assign(_strings([*titles, *_objects(items.titles)[is_new]]))
    tower.item_vectors.assign(np.concatenate([vectors, new]))
    tower.train_counts.assign(np.pad(tower.train_counts.numpy(), [0, len(new)]))
    is_changed = (vectors != before).any(axis=1) | (titles != titles_before)
    if isinstance(tower, TowerWithCategories):
        is_changed |= _refresh_values(
            tower.categories, tower.item_categories, items.categories, rows
        )
    if isinstance(tower, TowerWithFilters):
        for name, values in tower.filter_values.items():
            names = tower.filter_names.get(name)
            is_changed |= (
                _refresh_numbers(values, items.features[name], rows)
                if names is None
                else _refresh_values(names, values, items.features[name], rows)
            )
    is_removed = before.any(axis=1) & ~vectors.any(axis=1)
    return Changes(
        added=int(new.any(axis=1).sum()),
        added_without_vector=int((~new.any(axis=1)).sum()),
        changed=int((is_changed & ~is_removed).sum()),
        removed=int(is_removed.sum()),
        unchanged=int((~is_changed & ~is_removed).sum()),
    )


def _encode(tower: TowerThatEncodes, items: Items) -> np.ndarray:
    """Returns the vectors of ``items`` under the trained weights, float32 [M, d]."""
    parts = []
    for start in range(0, len(items), _ITEMS_AT_ONCE):
        examples = tf.constant(items.examples[start : start + _ITEMS_AT_ONCE])
        parts.append(tower.encode_items(examples).numpy())
    return np.concatenate(parts)


def _refresh_values(
    names: tf.Variable, table: tf.Variable, new: Sequence[Sequence[bytes]], rows: np.ndarray
) -> np.ndarray:
    """Sets the values of a categorical feature.

    Args:
      names: string [V], see ``model.categories``; changed in place, like ``table``.
      table: int32 [N, F].
      new: The new values of each item, [M].
      rows: The row of each item in ``table``, [M]; -1 for a new item.

    Returns:
      bool [N]: which of the known items now have different values.
    """
    known = [b"", *names.numpy()]
    before = [[known[c] for c in row if c] for row in table.numpy()]
    values = _replaced(before, new, rows)
    numbered = category_table(values)
    names.assign(_strings(numbered.names.tolist()))
    table.assign(numbered.items)
    return _differ(before, values)


def _refresh_numbers(
    table: tf.Variable, new: Sequence[Sequence[float]], rows: np.ndarray
) -> np.ndarray:
    """As ``_refresh_values``, for a numeric feature: float32 [N, F], padded with NaN."""
    before = [row[~np.isnan(row)].tolist() for row in table.numpy()]
    values = _replaced(before, new, rows)
    table.assign(number_table(values))
    return _differ(before, values)


def _replaced(before: list[list], new: Sequence[Sequence], rows: np.ndarray) -> list[list]:
    """Returns ``before`` with known items updated and the values of new items appended."""
    values = list(before)
    for item, row in enumerate(rows):
        if row < 0:
            values.append(list(new[item]))
        else:
            values[row] = list(new[item])
    return values


def _differ(before: list[list], values: list[list]) -> np.ndarray:
    return np.array([set(old) != set(new) for old, new in zip(before, values, strict=False)], bool)


def _objects(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _strings(values: Sequence[bytes]) -> tf.Tensor:
    return tf.constant(list(values), tf.string)
