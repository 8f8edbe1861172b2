"""Puts changes of the live catalogue into a trained tower."""

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
    """What a log says that a version does not contain.

    Attributes:
      entries: In the order of their positions.
      position: Of the last change in the log.
      identity: Of the log.
    """

    entries: list[Entry]
    position: int
    identity: str


def read_changes(log: ChangeLog, after: int) -> LoggedChanges:
    """Reads what the log has after a position."""
    entries: list[Entry] = []
    position = after
    while part := log.read(position, _ENTRIES_AT_ONCE):
        entries += part
        position = part[-1].position
    return LoggedChanges(entries, position, log.identity)


def fold_changes(tower: Tower, entries: Sequence[Entry], config: ItemsConfig) -> Changes:
    """Makes the changes in the catalogue of ``tower``, in place.

    Items that are out of stock keep their vectors: servers go on leaving them out, because the
    log keeps what it says of them.

    Args:
      tower: The Trainer's export, as a pushed bundle holds it.
      entries: What changed.
      config: Has the side features.

    Raises:
      ValueError: if a side feature changed, and the tower cannot encode items.
    """
    kept = [entry for entry in entries if not entry.change.is_removed]
    removed = {entry.item_id.encode() for entry in entries if entry.change.is_removed}
    before = tower.item_vectors.numpy().any(axis=1)
    ids = tower.item_ids.numpy()
    row_of = {item: row for row, item in enumerate(ids)}
    titles = tower.item_titles.numpy()

    # An item of which only the title changed is not described anew.
    for entry in kept:
        row = row_of.get(entry.item_id.encode())
        if entry.change.title is not None and row is not None:
            titles[row] = entry.change.title.encode()
    changed = int((titles != tower.item_titles.numpy()).sum())
    tower.item_titles.assign(tf.constant(titles.tolist(), tf.string))

    described = [entry for entry in kept if entry.change.features is not None]
    result = Changes(0, 0, changed, 0, len(ids) - changed)
    if described:
        items = _items(described, {item: titles[row] for item, row in row_of.items()}, config)
        result = refresh_catalogue(tower, items, remove_absent=False)

    vectors = tower.item_vectors.numpy()
    is_removed = np.isin(tower.item_ids.numpy(), list(removed)) & vectors.any(axis=1)
    vectors[is_removed] = 0.0
    tower.item_vectors.assign(vectors)
    num_removed = int((is_removed[: len(before)] & before).sum())
    return dataclasses.replace(
        result, removed=num_removed, unchanged=max(result.unchanged - num_removed, 0)
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
    """The values of side features, as an items file has them: lists of bytes or numbers."""
    return {
        name: [text.encode() for text in value] if isinstance(value, tuple) else [value]
        for name, value in (change.features or {}).items()
    }
