"""Reads histories of real people: some to tune the index with, and others to validate it."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from contract.features import HISTORY_TIME, ITEM_ID, NUM_TARGETS, TIMESTAMP, USER_ID

Group = Literal["tuning", "validation"]


@dataclasses.dataclass(frozen=True)
class People:
    """Requests as a client would send them.

    Attributes:
      history: object (bytes) [P, T], padded with b"" at the end.
      person: The other inputs by name: profile features, object (bytes) [P], where
        b"" is unknown, and ``history_time``, int64 [P, T] seconds since 1970, where 0
        is unknown.
    """

    history: np.ndarray
    person: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.history)

    def batches(self, size: int) -> Iterator["People"]:
        """Yields batches of at most ``size`` people."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield People(
                self.history[rows], {name: values[rows] for name, values in self.person.items()}
            )

    def at(self, rows: np.ndarray) -> "People":
        """Returns the people of some rows, int [Q]."""
        return People(
            self.history[rows], {name: values[rows] for name, values in self.person.items()}
        )

    def repeated(self, count: int) -> "People":
        """Returns ``count`` people, repeating them if there are fewer."""
        return self.at(np.arange(count) % len(self))


def group_of(user_id: bytes) -> Group:
    """Assigns a person to one of two disjoint groups, the same in every run."""
    return "tuning" if hashlib.sha256(user_id).digest()[0] % 2 == 0 else "validation"


def read_people(
    files: Sequence[str], group: Group, limit: int, person_inputs: Sequence[str]
) -> People:
    """Reads the histories, which are the items before the targets, of one group of people.

    Args:
      files: TFRecord files (gzip) of raw sequence examples.
      group: The group to read.
      limit: Maximum number of people.
      person_inputs: Names of the other inputs to read.

    Raises:
      ValueError: if nobody in the group has a history.
    """
    examples = (
        tf.train.Example.FromString(record)
        for record in tf.data.TFRecordDataset(
            sorted(files), compression_type="GZIP"
        ).as_numpy_iterator()
    )
    chosen = list(
        itertools.islice(
            (
                (history, example)
                for example in examples
                if (history := history_and_targets(example)[0])
                and group_of(_user_id(example)) == group
            ),
            limit,
        )
    )
    if not chosen:
        raise ValueError(
            f"No example of the {group} group has a history; expected at least one person with an "
            f"item before the targets in {len(files)} file(s): {list(files)[:3]}. Use more data or "
            "another split."
        )
    length = max(len(history) for history, _ in chosen)
    table = np.full([len(chosen), length], b"", dtype=object)
    times = np.zeros([len(chosen), length], np.int64)
    for row, (history, example) in enumerate(chosen):
        table[row, : len(history)] = history
        seconds = example.features.feature[TIMESTAMP].int64_list.value[: len(history)]
        times[row, : len(seconds)] = seconds
    person = {
        name: times
        if name == HISTORY_TIME
        else np.array([profile_value(example, name) for _, example in chosen], dtype=object)
        for name in person_inputs
    }
    return People(table, person)


def _user_id(example: tf.train.Example) -> bytes:
    return example.features.feature[USER_ID].bytes_list.value[0]


def history_and_targets(example: tf.train.Example) -> tuple[list[bytes], list[bytes]]:
    """Returns the item ids of a raw sequence example: those before the targets, and the targets."""
    features = example.features.feature
    items = list(features[ITEM_ID].bytes_list.value)
    first_target = len(items) - features[NUM_TARGETS].int64_list.value[0]
    return items[:first_target], items[first_target:]


def profile_value(example: tf.train.Example, name: str) -> bytes:
    """Returns a profile feature as text, the form in which requests send it.

    Args:
      example: A raw sequence example.
      name: The raw name of the feature.

    Returns:
      The text, or b"" if the example does not have the feature. A number is written with the
      fewest digits that still parse to exactly the same float32.
    """
    feature = example.features.feature[name]
    if feature.float_list.value:
        number = np.float32(feature.float_list.value[0])
        return np.format_float_positional(number, trim="-").encode()
    return feature.bytes_list.value[0] if feature.bytes_list.value else b""
