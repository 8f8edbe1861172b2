"""A shop's log, a span for each day, into which faults can be put."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

_DAY = 86_400
_START = 1_700_000_000 // _DAY * _DAY
# After every day that a test writes.
END = _START + 100 * _DAY
_PEOPLE, _ITEMS = 250, 120
CATEGORIES = ("bread", "fruit", "tea", "soap")


@dataclasses.dataclass(frozen=True)
class Event:
    """One line of the log."""

    user: str
    item: str
    time: int


Fault = Callable[[list[Event]], list[Event]]


def day(number: int, seed: int = 0) -> list[Event]:
    """The events of a day: every person comes with the same chance and buys what sells."""
    rng = np.random.default_rng([seed, number])
    popularity = 1.0 / np.arange(1, _ITEMS + 1)
    events = []
    for person in np.flatnonzero(rng.random(_PEOPLE) < 0.7):
        moments = np.sort(rng.integers(0, _DAY, rng.integers(3, 9)))
        items = rng.choice(_ITEMS, len(moments), p=popularity / popularity.sum())
        events += [
            Event(f"u{person}", f"i{item}", _START + number * _DAY + int(moment))
            for item, moment in zip(items, moments, strict=True)
        ]
    return events


def write_day(folder: Path, number: int, events: list[Event]) -> None:
    """Writes a span."""
    path = folder / f"{number}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows([event.user, event.item, event.time] for event in events)


def write_items(path: Path, category: Callable[[int], str]) -> None:
    """Writes the items table."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "category"])
        writer.writerows([f"i{item}", category(item)] for item in range(_ITEMS))


def usual_category(item: int) -> str:
    """The category of an item."""
    return CATEGORIES[item % len(CATEGORIES)]
