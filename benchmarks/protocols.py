"""Benchmark data and its two evaluation protocols.

Filters and splits are those of the MIND and ComiRec evaluations: items with at
least 5 interactions, then users with at least 5 of the remaining ones, in one
pass; items are indexed by descending train count.

``user``: disjoint people, 80 / 10 / 10 by a shuffle with seed 1230; validation
and test people show the first 80 % of their sequence and the rest are targets.
``leave_one_out``: the last item is the test target, the one before it the
validation target.
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
# Histories are cut to 20 items, 50 where the typical person has more.
_SHORT_HISTORY, _LONG_HISTORY = 20, 50


@dataclasses.dataclass(frozen=True)
class People:
    """A group of people whose next items are to be predicted.

    Attributes:
      users: Raw ids.
      histories: Item indices per person, oldest first, whole history.
      targets: Item indices per person.
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
      items: Raw item ids in index order; position 0 is item 1.
      train_users: Raw ids of the training sequences' people.
      train: Training sequences of item indices.
      validation: People for selection.
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
        """N."""
        return len(self.items)

    def train_counts(self) -> np.ndarray:
        """Train occurrences by index, int64 [N + 1]."""
        flat = np.concatenate([np.asarray(s, np.int64) for s in self.train])
        return np.bincount(flat, minlength=self.num_items + 1)

    def history_length(self) -> int:
        """The history length that goes with the data."""
        mean = np.mean([len(s) for s in self.train])
        return _LONG_HISTORY if mean > _LONG_HISTORY else _SHORT_HISTORY


def find_table(directory: Path, name: str) -> Path | None:
    """``name.csv`` or ``name.csv.gz`` in ``directory``, None if neither exists."""
    for suffix in (".csv", ".csv.gz"):
        if (path := directory / f"{name}{suffix}").exists():
            return path
    return None


def load_split(directory: Path, protocol: str) -> Split:
    """Reads ``interactions.csv[.gz]`` and cuts it.

    Raises:
      FileNotFoundError: if there is no interactions file.
      ValueError: on an unknown protocol.
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
    """Cuts ``{user: [item, ...]}`` (oldest first) and ``{user: [timestamp, ...]}``."""
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
    """The split with a share of the items kept out of training.

    They stay in the catalogue, as its last indices, and are the only targets of
    the test people; everybody's histories and the validation people's targets
    are free of them.
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
    """The last ``width`` entries of every row (all by default), filled at the end."""
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
      values: Per feature, the index of each person's value by raw user id.
      vocab_sizes: Per feature, its largest index + 1; 0 is unknown.
    """

    values: dict[str, dict] = dataclasses.field(default_factory=dict)
    vocab_sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def of(self, users: Sequence) -> dict[str, np.ndarray]:
        """Indices of the users' values, int32 [U] per feature."""
        return {
            name: np.array([index.get(user, 0) for user in users], np.int32)
            for name, index in self.values.items()
        }


def validation_data(people: People, history_length: int, profiles: "Profiles") -> ValidationData:
    """People as the model's input; the whole history is what gets excluded."""
    return ValidationData(
        history=pad(people.histories, history_length),
        targets=pad(people.targets, fill=-1),
        profile=profiles.of(people.users),
        excluded=pad(people.histories),
        times=pad(people.times, history_length, dtype=np.int64),
    )


def load_side_features(directory: Path, split: Split) -> Catalogue:
    """Catalogue with the item columns of ``items.csv[.gz]``.

    Columns but ``item_id`` and ``title`` are categorical; several values are
    separated by ``|`` or spaces. Without a file, the catalogue has ids only.
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
    """The columns of ``users.csv[.gz]`` as categories known from train people."""
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
