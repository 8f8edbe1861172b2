"""Benchmark data and its two evaluation protocols.

Filters and splits are those of the MIND and ComiRec evaluations. One pass keeps
the items with at least 5 interactions and then the people with at least 5 of
the remaining interactions. Items are indexed by descending train count.

``user``: the people are split 80 / 10 / 10 by a shuffle with seed 1230. The
histories of validation and test people are the first 80 % of their sequences,
and the rest are the targets.
``leave_one_out``: the last item of each person is the test target, and the one
before it the validation target.
"""

import dataclasses
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from model.catalogue import Catalogue
from model.training.validation import ValidationData

PROTOCOLS = ("user", "leave_one_out")
_MIN_COUNT = 5
_SPLIT_SEED = 1230
# Histories are cut to 50 items if training sequences are longer on average, otherwise to 20.
_SHORT_HISTORY, _LONG_HISTORY = 20, 50


@dataclasses.dataclass(frozen=True)
class People:
    """A group of people whose next items are to be predicted.

    Attributes:
      users: Raw ids.
      histories: Item indices of the whole history of each person, oldest first.
      targets: Item indices of each person's targets.
      times: Timestamps of the histories, in seconds.
    """

    users: list
    histories: list[list[int]]
    targets: list[list[int]]
    times: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Split:
    """A data set cut by a protocol.

    Attributes:
      items: Raw item ids in the order of their indices, which begin with 1.
      train_users: Raw ids of the training sequences' people.
      train: Training sequences of item indices.
      validation: People for the selection of the training step.
      test: People for the final figures.
      train_times: Timestamps of the training sequences, in seconds.
    """

    items: list
    train_users: list
    train: list[list[int]]
    validation: People
    test: People
    train_times: list[list[int]]

    @property
    def num_items(self) -> int:
        """Number of items, N."""
        return len(self.items)

    def train_counts(self) -> np.ndarray:
        """Returns how often each item occurs in training, int64 [N + 1] by index."""
        flat = np.concatenate([np.asarray(s, np.int64) for s in self.train])
        return np.bincount(flat, minlength=self.num_items + 1)

    def history_length(self) -> int:
        """Returns the history length for the data: 50 if its sequences are long, otherwise 20."""
        mean = np.mean([len(s) for s in self.train])
        return _LONG_HISTORY if mean > _LONG_HISTORY else _SHORT_HISTORY


def find_table(directory: Path, name: str) -> Path | None:
    """Returns ``name.csv`` or ``name.csv.gz`` in ``directory``, None if neither exists."""
    for suffix in (".csv", ".csv.gz"):
        if (path := directory / f"{name}{suffix}").exists():
            return path
    return None


def load_split(directory: Path, protocol: str) -> Split:
    """Reads ``interactions.csv[.gz]``, filters it and splits it.

    Args:
      directory: Directory of the data set.
      protocol: One of ``PROTOCOLS``.

    Raises:
      FileNotFoundError: if there is no interactions file.
      ValueError: if the protocol is unknown.
    """
    path = find_table(directory, "interactions")
    if path is None:
        raise FileNotFoundError(
            f"{directory} has no interactions.csv or interactions.csv.gz; expected columns "
            "user_id, item_id, timestamp."
        )
    frame = pd.read_csv(path, usecols=["user_id", "item_id", "timestamp"])
    frame = frame.sort_values(["user_id", "timestamp"], kind="stable")
    for column in ("item_id", "user_id"):
        counts = frame[column].value_counts()
        frame = frame[frame[column].isin(counts[counts >= _MIN_COUNT].index)]
    by_user = frame.groupby("user_id", sort=True)
    sequences = {user: group.tolist() for user, group in by_user["item_id"]}
    times = {user: group.tolist() for user, group in by_user["timestamp"]}
    return split_sequences(sequences, times, protocol)


def split_sequences(sequences: dict, times: dict, protocol: str) -> Split:
    """Splits sequences by a protocol.

    Args:
      sequences: Raw item ids by raw user id, oldest first.
      times: Timestamps of the items, in seconds, by raw user id.
      protocol: One of ``PROTOCOLS``.

    Raises:
      ValueError: if the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, received {protocol!r}.")
    users = sorted(sequences)
    if protocol == "user":
        random.Random(_SPLIT_SEED).shuffle(users)
        first, second = int(0.8 * len(users)), int(0.9 * len(users))
        train_users = users[:first]
        groups = [
            [(user, sequences[user], int(len(sequences[user]) * 0.8)) for user in part]
            for part in (users[first:second], users[second:])
        ]
        train = [sequences[user] for user in train_users]
        train_times = [times[user] for user in train_users]
    else:
        train_users = users
        groups = [
            [(user, sequences[user][: len(sequences[user]) - cut], -1) for user in users]
            for cut in (1, 0)
        ]
        train = [sequences[user][:-2] for user in users]
        train_times = [times[user][:-2] for user in users]
    counts = pd.Series([item for s in train for item in s]).value_counts()
    everything = {item for s in sequences.values() for item in s}
    items = sorted(everything, key=lambda item: (-counts.get(item, 0), item))
    index = {item: i for i, item in enumerate(items, start=1)}

    def people(group: list) -> People:
        return People(
            users=[user for user, _, _ in group],
            histories=[[index[i] for i in s[:at]] for _, s, at in group],
            targets=[[index[i] for i in s[at:]] for _, s, at in group],
            times=[times[user][: len(s[:at])] for user, s, at in group],
        )

    return Split(
        items=items,
        train_users=train_users,
        train=[[index[i] for i in s] for s in train],
        validation=people(groups[0]),
        test=people(groups[1]),
        train_times=train_times,
    )


def hold_items_out(split: Split, share: float) -> Split:
    """Returns the split with a share of the items held out of training.

    The held-out items stay in the catalogue, where they get the last indices, and
    are the only targets of the test people. They are removed from everybody's
    history and from the targets of the validation people. People who are left
    without a history or without targets are dropped.

    Args:
      split: The split of the data.
      share: Share of the items to hold out, between 0 and 1.
    """
    shuffled = np.random.default_rng(_SPLIT_SEED).permutation(split.num_items) + 1
    held = set(shuffled[: round(share * split.num_items)].tolist())
    order = sorted(range(1, split.num_items + 1), key=lambda i: (i in held, i))
    index = {old: new for new, old in enumerate(order, start=1)}

    def warm(row: list[int]) -> list[int]:
        return [index[i] for i in row if i not in held]

    def cold(row: list[int]) -> list[int]:
        return [index[i] for i in row if i in held]

    def of_warm(row: list[int], times: list[int]) -> list[int]:
        return [time for i, time in zip(row, times, strict=True) if i not in held]

    def people(group: People, keep: Callable[[list[int]], list[int]]) -> People:
        rows = zip(group.users, group.histories, group.targets, group.times, strict=True)
        kept = [
            (user, warm(history), keep(targets), of_warm(history, times))
            for user, history, targets, times in rows
        ]
        kept = [row for row in kept if row[1] and row[2]]
        return People(*(list(column) for column in zip(*kept, strict=True)))

    return Split(
        items=[split.items[i - 1] for i in order],
        train_users=split.train_users,
        train=[warm(row) for row in split.train],
        validation=people(split.validation, warm),
        test=people(split.test, cold),
        train_times=[
            of_warm(row, times) for row, times in zip(split.train, split.train_times, strict=True)
        ],
    )


def pad(
    rows: Sequence[Sequence[int]],
    width: int | None = None,
    fill: int = 0,
    dtype: type[np.integer] = np.int32,
) -> np.ndarray:
    """Returns the last ``width`` entries of every row, padded at the end, [R, width].

    Args:
      rows: R rows of any lengths.
      width: Number of columns; the length of the longest row by default.
      fill: The padding.
      dtype: Type of the result.
    """
    width = width or max(map(len, rows))
    result = np.full((len(rows), width), fill, dtype)
    for r, row in enumerate(rows):
        newest = row[-width:]
        result[r, : len(newest)] = newest
    return result


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profile features of people; none by default.

    Attributes:
      values: For each feature, the index of every person's value by raw user id.
      vocab_sizes: For each feature, its largest index + 1. Index 0 means unknown.
    """

    values: dict[str, dict] = dataclasses.field(default_factory=dict)
    vocab_sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def of(self, users: Sequence) -> dict[str, np.ndarray]:
        """Returns the indices of the users' values, int32 [U] for each feature."""
        return {
            name: np.array([index.get(user, 0) for user in users], np.int32)
            for name, index in self.values.items()
        }


def validation_data(people: People, history_length: int, profiles: "Profiles") -> ValidationData:
    """Returns people as input for the model's evaluation.

    The model reads the last ``history_length`` items, but the excluded items are those of the
    whole history.
    """
    return ValidationData(
        history=pad(people.histories, history_length),
        targets=pad(people.targets, fill=-1),
        profile=profiles.of(people.users),
        excluded=pad(people.histories),
        times=pad(people.times, history_length, dtype=np.int64),
    )


def load_side_features(directory: Path, split: Split) -> Catalogue:
    """Returns a catalogue with the columns of ``items.csv[.gz]`` as side features.

    All columns except ``item_id`` and ``title`` are categorical. Several values
    in a cell are separated by ``|`` or spaces. Without a file, the catalogue has
    no side features.
    """
    counts = split.train_counts()
    path = find_table(directory, "items")
    if path is None:
        return Catalogue(counts)
    frame = pd.read_csv(path, dtype=str).fillna("")
    frame["item_id"] = frame["item_id"].astype(type(split.items[0]))
    frame = frame.set_index("item_id").reindex(split.items, fill_value="")
    features, sizes = {}, {}
    for column in frame.columns.drop("title", errors="ignore"):
        values = [
            re.split(r"[|\s]+", cell.strip()) if cell.strip() else [] for cell in frame[column]
        ]
        names = sorted({v for row in values for v in row})
        index = {name: i for i, name in enumerate(names, start=1)}
        table = pad([[index[v] for v in row] for row in values])
        features[column] = np.concatenate([np.zeros_like(table[:1]), table])
        sizes[column] = len(names) + 1
    return Catalogue(counts, features, sizes)


def load_profiles(directory: Path, split: Split) -> Profiles:
    """Returns the columns of ``users.csv[.gz]`` as categorical profile features.

    Values that no training person has are unknown. Without a file, there are no features.
    """
    path = find_table(directory, "users")
    if path is None:
        return Profiles()
    frame = pd.read_csv(path, dtype=str).fillna("")
    frame["user_id"] = frame["user_id"].astype(type(split.train_users[0]))
    frame = frame.set_index("user_id")
    values, sizes = {}, {}
    for column in frame.columns:
        known = sorted(set(frame[column].reindex(split.train_users).dropna()) - {""})
        index = {value: i for i, value in enumerate(known, start=1)}
        values[column] = {user: index.get(value, 0) for user, value in frame[column].items()}
        sizes[column] = len(known) + 1
    return Profiles(values, sizes)
