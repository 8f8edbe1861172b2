"""Events of many people as columns, with functions that sort, filter and count them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from components.example_gen.rows import ITEM, TIME, USER


@dataclass(frozen=True)
class Events:
    """E events of U people, sorted by person and then by time.

    Attributes:
      user_ids: Ids [U] of the people, ascending.
      item_ids: Ids [I] of the items that occur, ascending.
      user: Position [E] in ``user_ids``, ascending.
      item: Position [E] in ``item_ids``.
      time: Seconds [E] since 1970, ascending within a person.
    """

    user_ids: pa.StringArray
    item_ids: pa.StringArray
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    @property
    def offsets(self) -> np.ndarray:
        """Where each person's events begin [U + 1]; the last value is E."""
        return np.searchsorted(self.user, np.arange(len(self.user_ids) + 1))

    def to_table(self) -> pa.Table:
        """Returns the events as an Arrow table with dictionary-encoded ids."""
        return pa.table(
            {
                USER: pa.DictionaryArray.from_arrays(pa.array(self.user), self.user_ids),
                ITEM: pa.DictionaryArray.from_arrays(pa.array(self.item), self.item_ids),
                TIME: self.time,
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> "Events":
        """Returns the events in a table that ``to_table`` made."""
        user = _one_dictionary(table[USER])
        item = _one_dictionary(table[ITEM])
        return cls(
            user.dictionary,
            item.dictionary,
            user.indices.to_numpy(),
            item.indices.to_numpy(),
            table[TIME].to_numpy(),
        )

    def take(self, keep: np.ndarray) -> "Events":
        """Returns only the events where ``keep`` [E] is true, and the ids that they use."""
        user_ids, user = _compact(self.user_ids, self.user[keep])
        item_ids, item = _compact(self.item_ids, self.item[keep])
        return Events(user_ids, item_ids, user, item, self.time[keep])


def no_events() -> Events:
    """Returns an object without people, items or events."""
    nothing = np.array([], np.int32)
    ids = pa.array([], pa.string())
    return Events(ids, ids, nothing, nothing, np.array([], np.int64))


def sort_events(parts: Sequence[pa.Table]) -> Events:
    """Sorts events by person and time; events of the same second stay in file order.

    Args:
      parts: Tables of ``USER``, ``ITEM`` and ``TIME``, in file order.
    """
    table = pa.concat_tables(parts)
    user_ids, user = _encode(table[USER])
    item_ids, item = _encode(table[ITEM])
    time = table[TIME].to_numpy()
    order = np.lexsort((time, user))  # stable
    return Events(user_ids, item_ids, user[order], item[order], time[order])


def is_repeated(events: Events) -> np.ndarray:
    """Returns which events [E] have the same person, item and time as an earlier event."""
    columns = {USER: events.user, ITEM: events.item, TIME: events.time}
    return pd.DataFrame(columns, copy=False).duplicated().to_numpy()


def keep_items(events: Events, kept: pa.StringArray) -> Events:
    """Returns only the events of the items ``kept``."""
    known = pc.is_in(events.item_ids, value_set=kept).to_numpy(zero_copy_only=False)
    return events if known.all() else events.take(known[events.item])


def keep_active_users(events: Events, min_events: int) -> Events:
    """Returns only the events of people with at least ``min_events``."""
    active = np.bincount(events.user, minlength=len(events.user_ids)) >= min_events
    return events if active.all() else events.take(active[events.user])


def keep_newest(events: Events, max_events: int) -> Events:
    """Returns only the newest ``max_events`` of each person."""
    from_end = events.offsets[1:][events.user] - np.arange(len(events))
    kept = from_end <= max_events
    return events if kept.all() else events.take(kept)


def item_counts(events: Events) -> np.ndarray:
    """Returns the number of events [I] of each item."""
    return np.bincount(events.item, minlength=len(events.item_ids))


def first_occurrence(events: Events) -> np.ndarray:
    """Returns, for each event, the position [E] of the first event of the same person and item."""
    pair = events.user.astype(np.int64) * len(events.item_ids) + events.item
    codes, _ = pd.factorize(pair)  # numbered by first appearance
    first = np.zeros(codes.max(initial=-1) + 1, np.int64)
    positions = np.arange(len(codes))
    first[codes[::-1]] = positions[::-1]  # the earliest is written last
    return first[codes]


def _encode(column: pa.ChunkedArray) -> tuple[pa.StringArray, np.ndarray]:
    """Returns the distinct values, ascending, and the position [E] of each row's value."""
    encoded = _one_dictionary(column)
    return _compact(encoded.dictionary, encoded.indices.to_numpy())


def _one_dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.unify_dictionaries().combine_chunks()


def _compact(ids: pa.StringArray, codes: np.ndarray) -> tuple[pa.StringArray, np.ndarray]:
    """Drops unused ids, sorts the others in ascending order and renumbers the codes."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(ids)))
    ids = ids.take(pa.array(used))
    order = pc.sort_indices(ids).to_numpy().astype(np.int64)
    new_code = np.zeros(len(used) and used[-1] + 1, np.int32)
    new_code[used[order]] = np.arange(len(used), dtype=np.int32)
    return ids.take(pa.array(order)), new_code[codes]
