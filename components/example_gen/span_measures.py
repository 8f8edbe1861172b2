"""Measures how each span of a window compares with the spans before it.

DataGate compares the figures of the newest span with those of the spans before it. They reveal a
log that was truncated, delivered twice or written with other ids before a model is trained on it.
This module only measures; the limits are in ``components.data_gate``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from components.example_gen.rows import ITEM, TIME, USER
from components.example_gen.span_store import StoredFile
from components.example_gen.text import hash_text
from contract.divergence import equal_mass_buckets, jensen_shannon

# The newest span and this many before it are measured. Older ones only determine which items and
# people are new.
COMPARED_SPANS = 7
_POPULARITY_BUCKETS = 10
# Each bucket is twice as wide as the one before: 1, 2-3, 4-7 … events of a person, or seconds
# between two of them.
_LOG_BUCKETS = 40


@dataclass(frozen=True)
class SpanMeasures:
    """Measures of one span, and how it compares with the spans before it in the window.

    The comparisons, which may be None, are None if the spans before have no events or the span
    itself has none.

    Attributes:
      name: Name of the span.
      events: Number of good rows.
      bad_share: Share of its rows that could not be used.
      people: Number of people with an event.
      busiest_person: Number of events of the person with the most.
      repeated_share: Share of its events (person, item and time) that are also in one of the
        seven spans before it.
      early_share: Share of its events that are older than the newest event of the spans
        before it.
      future_share: Share of its events that lie in the future.
      new_item_share: Share of its events whose item is in no span before it.
      new_people_share: Share of its people who are in no span before it.
      item_drift: Jensen-Shannon divergence, in [0, 1], between its events and those of the
        spans before it. The events are counted in ten buckets of items, each with an equal
        share of the earlier events, and an eleventh bucket for new items.
      activity_drift: The same for people by their number of events, in powers of two.
      gap_drift: The same for the seconds between two events of a person, in powers of two.
    """

    name: str
    events: int
    bad_share: float
    people: int
    busiest_person: int
    repeated_share: float | None
    early_share: float | None
    future_share: float
    new_item_share: float | None
    new_people_share: float | None
    item_drift: float | None
    activity_drift: float | None
    gap_drift: float | None


def measure(files: Iterable[StoredFile], now: int) -> list[dict[str, Any]]:
    """Measures the newest spans.

    Args:
      files: The stored files of the window, from the oldest span to the newest.
      now: Seconds since 1970; later events lie in the future.

    Returns:
      The ``SpanMeasures`` as JSON types, the oldest of these spans first.
    """
    spans: dict[str, list[StoredFile]] = {}
    for file in files:
        spans.setdefault(file.span, []).append(file)
    past = _Past()
    measured = []
    for number, (name, parts) in enumerate(spans.items()):
        span = _Span.load(parts)
        if number >= len(spans) - COMPARED_SPANS - 1:
            measured.append(asdict(past.compare(name, span, now)))
        past.add(span)
    return measured


@dataclass(frozen=True)
class _Span:
    """The E events of a span, sorted by person and time, with hashes as ids."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    num_read: int
    num_bad: int

    @classmethod
    def load(cls, files: Iterable[StoredFile]) -> "_Span":
        """Reads the stored files of the span."""
        blocks, num_read, num_bad = [], 0, 0
        for file in files:
            report = file.report()
            num_read += report["read"]
            num_bad += sum(report["bad"].values())
            blocks += [_hashed(table) for table in file.events()]
        user, item, time = (
            np.concatenate([np.zeros(0, kind), *(block[n] for block in blocks)])
            for n, kind in enumerate((np.uint64, np.uint64, np.int64))
        )
        order = np.lexsort((time, user))
        return cls(user[order], item[order], time[order], num_read, num_bad)

    def keys(self) -> np.ndarray:
        """Returns a hash [E] of person, item and time."""
        mixed = self.user * np.uint64(0x9E3779B97F4A7C15) + self.item
        return mixed * np.uint64(0xC2B2AE3D27D4EB4F) + self.time.astype(np.uint64)

    def activity(self) -> np.ndarray:
        """Returns the numbers of people by their number of events, in powers of two."""
        _, counts = np.unique(self.user, return_counts=True)
        return _log_histogram(counts)

    def gaps(self) -> np.ndarray:
        """Returns the numbers of consecutive events of a person by the seconds between them."""
        same = self.user[1:] == self.user[:-1]
        return _log_histogram(1 + np.diff(self.time)[same])


class _Past:
    """The totals of the spans so far, with which the next span is compared."""

    def __init__(self) -> None:
        self._items = np.zeros(0, np.uint64)
        self._item_counts = np.zeros(0, np.int64)
        self._people = np.zeros(0, np.uint64)
        self._recent: list[np.ndarray] = []
        self._newest: int | None = None
        self._activity = np.zeros(_LOG_BUCKETS, np.int64)
        self._gaps = np.zeros(_LOG_BUCKETS, np.int64)

    def add(self, span: _Span) -> None:
        """Adds a span to the totals."""
        items, counts = np.unique(span.item, return_counts=True)
        self._items, inverse = np.unique(np.concatenate([self._items, items]), return_inverse=True)
        self._item_counts = np.bincount(
            inverse, np.concatenate([self._item_counts, counts]), len(self._items)
        ).astype(np.int64)
        self._people = np.union1d(self._people, span.user)
        self._recent = [*self._recent[1 - COMPARED_SPANS :], span.keys()]
        if len(span.time):
            newest = int(span.time.max())
            self._newest = newest if self._newest is None else max(self._newest, newest)
        self._activity += span.activity()
        self._gaps += span.gaps()

    def compare(self, name: str, span: _Span, now: int) -> SpanMeasures:
        """Measures a span that has not been added yet."""
        people, activity = np.unique(span.user, return_counts=True)
        comparable = bool(len(span.user)) and self._newest is not None
        return SpanMeasures(
            name=name,
            events=len(span.user),
            bad_share=span.num_bad / span.num_read if span.num_read else 0.0,
            people=len(people),
            busiest_person=int(activity.max(initial=0)),
            repeated_share=self._repeated(span) if comparable else None,
            early_share=float((span.time < self._newest).mean()) if comparable else None,
            future_share=float((span.time > now).mean()) if len(span.time) else 0.0,
            new_item_share=float((~np.isin(span.item, self._items)).mean()) if comparable else None,
            new_people_share=float((~np.isin(people, self._people)).mean()) if comparable else None,
            item_drift=self._item_drift(span) if comparable else None,
            activity_drift=jensen_shannon(self._activity, span.activity()) if comparable else None,
            gap_drift=jensen_shannon(self._gaps, span.gaps()) if comparable else None,
        )

    def _repeated(self, span: _Span) -> float:
        return float(np.isin(span.keys(), np.concatenate(self._recent)).mean())

    def _item_drift(self, span: _Span) -> float | None:
        buckets = equal_mass_buckets(self._item_counts, _POPULARITY_BUCKETS)
        place = np.minimum(np.searchsorted(self._items, span.item), len(self._items) - 1)
        known = self._items[place] == span.item
        found = np.where(known, buckets[place], _POPULARITY_BUCKETS)
        size = _POPULARITY_BUCKETS + 1
        past = np.bincount(buckets, self._item_counts, size)
        return jensen_shannon(past, np.bincount(found, minlength=size))


def _log_histogram(values: np.ndarray) -> np.ndarray:
    """Returns how many of ``values``, integers from 1, lie between consecutive powers of two."""
    exponents = np.frexp(values.astype(np.float64))[1] - 1
    return np.bincount(np.minimum(exponents, _LOG_BUCKETS - 1), minlength=_LOG_BUCKETS)


def _hashed(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    user, item = (np.concatenate([*_hashes(table[name])]) for name in (USER, ITEM))
    return user, item, table[TIME].to_numpy()


def _hashes(column: pa.ChunkedArray) -> Iterator[np.ndarray]:
    yield np.zeros(0, np.uint64)
    for chunk in column.chunks:
        yield hash_text(chunk.dictionary)[chunk.indices.to_numpy()]
