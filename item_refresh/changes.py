"""Applies changes of the live catalogue to a trained tower."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from components.example_gen.config import ItemsConfig
from contract.catalogue_changes import Change
from contract.change_log import ChangeLog, Entry
from item_refresh.catalogue import Changes, refresh_catalogue
from item_refresh.items_file import Items
from model.catalogue_examples import catalogue_example
from retrieval.tower import Tower

_ENTRIES_AT_ONCE = 10_000


@dataclasses.dataclass(frozen=True)
class LoggedChanges:
    """The entries of a change log that a version does not contain.

    Attributes:
      entries: The entries, in the order of their positions.
      position: Position of the last entry; if there is none, the position after which
        the log was read.
      identity: Identity of the log.
    """

    entries: list[Entry]
    position: int
    identity: str


def read_changes(log: ChangeLog, after: int) -> LoggedChanges:
    """Reads all entries of the log after a position."""
    entries: list[Entry] = []
    position = after
    while part := log.read(position, _ENTRIES_AT_ONCE):
        entries += part
        position = part[-1].position
    return LoggedChanges(entries, position, log.identity)


def fold_changes(tower: Tower, entries: Sequence[Entry], config: ItemsConfig) -> Changes:
    """Applies logged changes to the catalogue of ``tower``, in place.

    Items that are out of stock keep their vectors. Servers still leave them out, because the log
    keeps the entries of such items.

    Args:
      tower: The Trainer's export, as stored in a pushed bundle.
      entries: The changes to apply.
      config: Configuration of the items, which names the side features.

    Raises:
      ValueError: if a side feature changed but the tower cannot encode items.
    """
    kept = [entry for entry in entries if not entry.change.is_removed]
    removed = {entry.item_id.encode() for entry in entries if entry.change.is_removed}
    before = tower.item_vectors.numpy().any(axis=1)
    ids = tower.item_ids.numpy()
    row_of = {item: row for row, item in enumerate(ids)}
    titles = tower.item_titles.numpy()

    # An item whose title alone changed does not need to be encoded again.
    for entry in kept:
        row = row_of.get(entry.item_id.encode())
        if entry.change.title is not None and entry.change.features is None and row is not None:
            titles[row] = entry.change.title.encode()
    renamed = int((titles != tower.item_titles.numpy()).sum())
    tower.item_titles.assign(tf.constant(titles.tolist(), tf.string))

    described = [entry for entry in kept if entry.change.features is not None]
    result = Changes(added=0, added_without_vector=0, changed=0, removed=0, unchanged=len(ids))
    if described:
        items = _items(described, {item: titles[row] for item, row in row_of.items()}, config)
        result = refresh_catalogue(tower, items, remove_absent=False)

    vectors = tower.item_vectors.numpy()
    is_removed = np.isin(tower.item_ids.numpy(), list(removed)) & vectors.any(axis=1)
    vectors[is_removed] = 0.0
    tower.item_vectors.assign(vectors)
    num_removed = int((is_removed[: len(before)] & before).sum())
    return dataclasses.replace(
        result,
        changed=result.changed + renamed,
        removed=num_removed,
        unchanged=max(result.unchanged - renamed - num_removed, 0),
    )


def _items(entries: Sequence[Entry], titles: dict[bytes, bytes], config: ItemsConfig) -> Items:
    kinds = {name: feature.kind for name, feature in config.features.items()}
    ids = [entry.item_id.encode() for entry in entries]
    values = [_values(entry.change) for entry in entries]
    names = [entry.change.title for entry in entries]
    return Items(
        ids=ids,
        titles=[
            titles.get(item, b"") if name is None else name.encode()
            for item, name in zip(ids, names, strict=True)
        ],
        categories=[given.get(config.category, []) for given in values],
        examples=[
            catalogue_example(entry.item_id, entry.change.features or {}, kinds)
            for entry in entries
        ],
        features={name: [given.get(name, []) for given in values] for name in config.features},
    )


def _values(change: Change) -> dict[str, list[Any]]:
    """Returns the side features in the form of an items file: lists of bytes or numbers."""
    return {
        name: [text.encode() for text in value] if isinstance(value, tuple) else [value]
        for name, value in (change.features or {}).items()
    }
