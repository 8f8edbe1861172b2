"""The live catalogue of one loaded version: the mapping of slots to items."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

from contract import live_catalogue as names
from contract.change_log import ChangeLog, Entry
from contract.manifest import LOG_IDENTITY, LOG_POSITION, MANIFEST_PATH, REFRESH, from_json
from model.catalogue_examples import catalogue_example
from serving.errors import ServingError
from serving.live_columns import columns_of, inputs_to_apply, inputs_to_describe, joined
from serving.saved_model import SavedModel
from serving.signature import Signature

# Slots that are scored in every request; beyond this number, slots are sorted by their leaves.
_MAX_FRESH: Final = 4096
# Items that one run of the model describes, and entries read from the log at once.
_ITEMS_AT_ONCE: Final = 1024
_ENTRIES_AT_ONCE: Final = 8192


class LiveModel:
    """Applies the changes of a log to a version; for use by one thread at a time.

    Attributes:
      model: The version.
      folded: Position of the last change that the version contains.
      position: Position of the last change that was applied, or that the version contains.
      features: Kind of each side feature, by name.
      num_pushed: Number of items that the pushed index finds.
      without_vector: Changed items that cannot be found, because training knows none of their
        features.
    """

    def __init__(self, model: SavedModel, path: Path, log_identity: str):
        """Reads the version's description of itself.

        Args:
          model: The loaded version.
          path: Its directory.
          log_identity: Identity of the log whose changes are applied.

        Raises:
          FileNotFoundError: the version was pushed without a live catalogue.
          ServingError: an earlier release pushed the version, with another description.
        """
        description = json.loads((path / names.LIVE_CATALOGUE_PATH).read_text())
        if names.COLUMNS not in description:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{path} was pushed by an earlier release, so this server cannot apply changes of"
                " the catalogue to it: push the items again with item_refresh, or start the server"
                " without --live_catalogue",
            )
        self.model = model
        self._functions = {
            name: Signature.from_proto(
                json_format.ParseDict(definition, meta_graph_pb2.SignatureDef())
            )
            for name, definition in description[names.FUNCTIONS].items()
        }
        self.features: dict[str, str] = description[names.FEATURES]
        self._columns = columns_of(
            description[names.COLUMNS], self._functions[names.DESCRIBE].inputs
        )
        self._num_leaves: int = description[names.NUM_LEAVES]
        self.num_pushed: int = description[names.NUM_PUSHED]
        self.folded = folded_position(path, log_identity)
        self.position = self.folded
        self.without_vector: set[str] = set()
        self._has_read_kept = False
        self._catching_up = threading.Lock()
        self._has_failed = False
        self._touched: set[int] = set()
        self._freed: set[str] = set()
        self._slot_of: dict[str, int] = {}
        self._free: list[int] = []
        self._replaced: dict[int, int] = {}
        self._leaf_of = np.zeros([0], np.int32)
        # As in retrieval.live_items: the place in ``_order`` of each slot that is part of it.
        self._order = np.zeros([0], np.int32)
        self._place_of: dict[int, int] = {}
        self._starts = np.zeros([self._num_leaves + 1], np.int32)
        self._fresh: dict[int, None] = {}

    @property
    def num_slots(self) -> int:
        """Number of items in slots, which are those that were added or changed."""
        return len(self._slot_of)

    @property
    def num_replaced(self) -> int:
        """Number of pushed items that are no longer found as they were pushed."""
        return len(self._replaced)

    def catch_up(self, log: ChangeLog) -> None:
        """Applies the log's entries beyond ``position``, each part of them atomically for requests.

        Raises:
          ChangeLogError: the log cannot be read.
            ServingError: the model failed; what was applied before remains.
        """
        with self._catching_up:
            if self._has_failed:
                self._start_over()
            self._has_failed = True
            if not self._has_read_kept:
                self._apply(log.kept(self.folded))
                self._has_read_kept = True
            while entries := log.read(self.position, _ENTRIES_AT_ONCE):
                self._apply(entries)
                self.position = entries[-1].position
            self._has_failed = False

    def _start_over(self) -> None:
        """Resets everything, because a failure may have left a part half applied."""
        freed = [*self._slot_of, *self._freed]
        moved = dict.fromkeys([*self._replaced, *self._touched], names.AS_PUSHED)
        for state in (self._slot_of, self._free, self._replaced, self._place_of, self._fresh):
            state.clear()
        self.without_vector.clear()
        self._order, self._starts = self._order[:0], np.zeros_like(self._starts)
        nothing = self._described([])
        self._change(
            {
                names.SLOTS: np.zeros([0], np.int32),
                names.IDS: _strings([]),
                names.NEW_TITLES: _strings([]),
                names.VECTORS: nothing[names.VECTORS],
                names.COUNTS: nothing[names.COUNTS],
                **inputs_to_apply(self._columns, [], nothing, []),
            },
            freed,
            moved,
        )
        self.position = self.folded
        self._has_read_kept = False

    def _apply(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        parts = [
            self._described(entries[start : start + _ITEMS_AT_ONCE])
            for start in range(0, len(entries), _ITEMS_AT_ONCE)
        ]
        described = joined(parts)
        # Copied, because the graph may share the memory of the array that it was fed.
        self._order = self._order.copy()
        written: list[int] = []  # entries that need a slot
        slots: list[int] = []
        freed: list[str] = []
        moved: dict[int, int] = {}
        for index, (_, item, change) in enumerate(entries):
            position = int(described[names.POSITIONS][index])
            had_slot = self._drop(item)
            has_vector = bool(described[names.VECTORS][index].any())
            if change.is_found and not has_vector:
                self.without_vector.add(item)
            else:
                self.without_vector.discard(item)
            if not change.is_found or not has_vector:
                now = names.REMOVED
            elif position >= 0 and not change.needs_slot:
                now = names.AS_PUSHED
            else:
                now = self._take(item, int(described[names.LEAVES][index]))
                written.append(index)
                slots.append(now)
            if had_slot and now < 0:
                freed.append(item)
            if position >= 0:
                moved[position] = now
                if now == names.AS_PUSHED:
                    self._replaced.pop(position, None)
                else:
                    self._replaced[position] = now
        if len(self._fresh) > _MAX_FRESH and self._num_leaves:
            self._put_in_order()
        titles = [
            described[names.PUSHED_TITLES][index] if change.title is None else change.title.encode()
            for index, (_, _, change) in enumerate(entries)
        ]
        self._change(
            {
                names.SLOTS: np.array(slots, np.int32),
                names.IDS: _strings([entries[i].item_id.encode() for i in written]),
                names.NEW_TITLES: _strings([titles[i] for i in written]),
                names.VECTORS: described[names.VECTORS][written],
                names.COUNTS: described[names.COUNTS][written],
                **inputs_to_apply(
                    self._columns, [entry.change for entry in entries], described, written
                ),
            },
            freed,
            moved,
        )

    def _change(
        self, rows: Mapping[str, np.ndarray], freed: Sequence[str], moved: Mapping[int, int]
    ) -> None:
        """Changes the state of the graph.

        Args:
          rows: Inputs of ``apply_changes`` for the slots that are written.
          freed: Items that no longer have a slot.
          moved: Replacements of pushed items, by their positions.
        """
        # What would have to be reset if the model failed now.
        self._touched.update(moved)
        self._freed.update(freed)
        state = {
            names.FREED_IDS: _strings([item.encode() for item in freed]),
            names.POSITIONS: np.array(list(moved), np.int32),
            names.REPLACED_BY: np.array(list(moved.values()), np.int32),
            names.NUM_REPLACED: np.array(len(self._replaced), np.int32),
            names.ORDER: self._order,
            names.STARTS: self._starts,
            names.FRESH: np.array(list(self._fresh), np.int32),
        }
        self._run(names.APPLY, {**rows, **state}, alone=True)
        self._touched.clear()
        self._freed.clear()

    def _described(self, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
        """Returns the outputs of ``describe_items`` for the items."""
        inputs = {
            names.IDS: _strings([item.encode() for _, item, _ in entries]),
            names.EXAMPLES: _strings([self._example(entry) for entry in entries]),
            **inputs_to_describe(self._columns, [entry.change for entry in entries]),
        }
        return self._run(names.DESCRIBE, inputs)

    def _example(self, entry: Entry) -> bytes:
        """Returns the item as a catalogue row; empty if the item keeps its pushed vector."""
        values = entry.change.features
        if values is None:
            return b""
        return catalogue_example(entry.item_id, values, self.features)

    def _take(self, item: str, leaf: int) -> int:
        """Assigns a slot to an item."""
        slot = self._free.pop() if self._free else len(self._slot_of)
        if slot >= len(self._leaf_of):
            self._leaf_of = np.resize(self._leaf_of, [max(2 * len(self._leaf_of), slot + 1)])
        self._slot_of[item] = slot
        self._leaf_of[slot] = leaf
        self._fresh[slot] = None
        return slot

    def _drop(self, item: str) -> bool:
        """Frees an item's slot; returns whether it had one."""
        slot = self._slot_of.pop(item, None)
        if slot is None:
            return False
        self._free.append(slot)
        if slot in self._place_of:
            self._order[self._place_of.pop(slot)] = -1
        self._fresh.pop(slot, None)
        return True

    def _put_in_order(self) -> None:
        """Sorts all slots by their leaves."""
        slots = np.fromiter(self._slot_of.values(), np.int32, len(self._slot_of))
        leaves = self._leaf_of[slots]
        by_leaf = np.argsort(leaves, kind="stable")
        self._order = slots[by_leaf]
        self._place_of = {int(slot): place for place, slot in enumerate(self._order)}
        sizes = np.bincount(leaves, minlength=self._num_leaves)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        self._fresh = {}

    def _run(
        self, name: str, inputs: Mapping[str, Any], *, alone: bool = False
    ) -> dict[str, np.ndarray]:
        return self.model.run_function(self._functions[name], inputs, alone=alone)


def folded_position(path: Path, log_identity: str) -> int:
    """Returns the log position up to which the version at ``path`` contains changes; 0 if none."""
    manifest = path / MANIFEST_PATH
    if not manifest.exists():
        return 0
    refresh = from_json(manifest.read_text()).get(REFRESH, {})
    return int(refresh[LOG_POSITION]) if refresh.get(LOG_IDENTITY) == log_identity else 0


def _strings(values: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array
