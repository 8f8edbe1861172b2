"""Cuts sorted events into the rows of train, eval and test.

Everything here works on positions in ``Events``; no text is touched.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.example_gen.config import SplitConfig
from components.example_gen.events import Events, first_occurrence
from components.example_gen.text import hash_text
from contract import features


@dataclass(frozen=True)
class Rows:
    """R sequences, each a run of consecutive events of one person.

    Attributes:
      start: First event [R].
      stop: Event after the last [R].
      num_targets: The last n events are targets [R]; 0 in train.
      num_context: The first n events are never targets [R]; train and rest only.
      history_length: Events before the targets [R], also when ``start`` has since
        been moved to a later one.
    """

    start: np.ndarray
    stop: np.ndarray
    num_targets: np.ndarray
    num_context: np.ndarray
    history_length: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def make(cls, start: np.ndarray, stop: np.ndarray, first_target: np.ndarray) -> "Rows":
        """Rows whose targets are the events from ``first_target`` on."""
        return cls(start, stop, stop - first_target, np.zeros_like(start), first_target - start)

    def positions(self) -> np.ndarray:
        """Positions of the events of all rows, one row after another."""
        lengths = self.stop - self.start
        ends = np.cumsum(lengths)
        total = ends[-1] if len(ends) else 0
        return np.arange(total) + np.repeat(self.start - (ends - lengths), lengths)

    def targets(self) -> "Rows":
        """Only the targets of each row."""
        return Rows.make(self.stop - self.num_targets, self.stop, self.stop)

    def take(self, index: np.ndarray | slice) -> "Rows":
        """The rows at ``index`` (positions, a mask or a slice)."""
        return Rows(
            self.start[index],
            self.stop[index],
            self.num_targets[index],
            self.num_context[index],
            self.history_length[index],
        )


Splits = dict[str, Rows]


def split_events(
    events: Events, config: SplitConfig, cuts: tuple[int, int] | None = None
) -> Splits:
    """Splits events by the configured protocol.

    Args:
      events: Events of some people; the rest of the people does not matter.
      config: The protocol.
      cuts: What ``cut_times`` gives over the events of all people, for the protocol
        ``time``; twice what ``last_events`` gives, for ``newest_span``.
    """
    offsets = events.offsets
    if config.protocol == "leave_last":
        return leave_last(offsets, config.num_targets)
    if config.protocol == "user":
        draw = draw_users(events.user_ids, config.seed)
        return by_user(
            offsets, draw, config.eval_fraction, config.test_fraction, config.target_fraction
        )
    if cuts is None:
        raise ValueError(f"The protocol {config.protocol!r} needs its cuts")
    if config.protocol == "newest_span":
        draw = draw_users(events.user_ids, config.seed)
        return by_newest_span(
            offsets, events.user, events.time, cuts[0], draw, config.eval_fraction
        )
    return by_time(offsets, events.user, events.time, cuts)


def draw_users(user_ids: pa.StringArray, seed: int) -> np.ndarray:
    """A number in [0, 1) per person [U] that depends on the id and ``seed`` only.

    So a person stays in the same split when the data grows.
    """
    key = hashlib.blake2b(str(seed).encode(), digest_size=8).hexdigest()  # 16 characters
    return hash_text(user_ids, key) / 2.0**64


def untrained(events: Events, train: Rows, history_length: int) -> Rows:
    """What train leaves out, in the form of its chunks: the split ``rest``.

    Each event that is no position of train is one of these rows, with the train events
    before it as context. With these rows train covers all events, each of them once.

    Args:
      events: Where ``train`` points to.
      train: Rows that hold the oldest events of a person, or none of them.
      history_length: The model's; so many events of context are enough.
    """
    first, stop = events.offsets[:-1], events.offsets[1:]
    trained = first.copy()
    trained[events.user[train.start]] = train.stop
    start = np.maximum(first, trained - history_length)
    rows = Rows(start, stop, np.zeros_like(start), trained - start, stop - start)
    return rows.take(stop > trained)


def bound_length(found: Splits, max_length: int, history_length: int) -> Splits:
    """Cuts long train rows into chunks, and long histories to their newest part."""
    return {
        split: chunk(rows, max_length, history_length)
        if split in (features.TRAIN, features.REST)
        else keep_newest_history(rows, max_length)
        for split, rows in found.items()
    }


def describe(events: Events, found: Splits) -> dict[str, dict[str, int]]:
    """Counts of each split, before chunking.

    ``events`` counts the positions of train and of rest, and the histories and targets of
    the others; ``repeated_targets`` the targets whose item is in the full history.
    """
    first = first_occurrence(events)
    counts: dict[str, dict[str, int]] = {}
    for split, rows in found.items():
        counts[split] = {
            "sequences": len(rows),
            "events": int((rows.stop - rows.start - rows.num_context).sum()),
        }
        if split not in (features.TRAIN, features.REST):
            targets = rows.targets()
            met_before = first[targets.positions()] < np.repeat(targets.start, rows.num_targets)
            counts[split]["targets"] = int(rows.num_targets.sum())
            counts[split]["repeated_targets"] = int(met_before.sum())
    return counts


def leave_last(offsets: np.ndarray, num_targets: int) -> Splits:
    """Per person: the last n events to test, the n before to eval, the rest to train.

    People with at most 2n events go entirely to train, so that every history has
    an event. The history of a test row includes the eval targets.

    Args:
      offsets: Where each person's events begin [U + 1].
      num_targets: n.
    """
    start, stop = offsets[:-1], offsets[1:]
    enough = stop - start > 2 * num_targets
    train_stop = np.where(enough, stop - 2 * num_targets, stop)
    first, last, eval_stop = start[enough], stop[enough], stop[enough] - num_targets
    return {
        features.TRAIN: Rows.make(start, train_stop, train_stop),
        features.EVAL: Rows.make(first, eval_stop, eval_stop - num_targets),
        features.TEST: Rows.make(first, last, eval_stop),
    }


def by_user(
    offsets: np.ndarray,
    draw: np.ndarray,
    eval_fraction: float,
    test_fraction: float,
    target_fraction: float,
) -> Splits:
    """Disjoint people; eval and test people show a history and hide the rest.

    Of L events the first ``floor(L * (1 - target_fraction))`` are the history, but
    at least one event and not all of them.

    Args:
      offsets: Where each person's events begin [U + 1].
      draw: A number in [0, 1) for each person [U], from their id.
      eval_fraction: Share of people in eval.
      test_fraction: Share of people in test.
      target_fraction: Share of a person's events that are targets.
    """
    start, stop = offsets[:-1], offsets[1:]
    length = stop - start
    # The small number keeps e.g. 10 * (1 - 0.7) = 3.0000000000000004 - 1 ulp whole.
    shown = np.floor(length * (1.0 - target_fraction) + 1e-9).astype(np.int64)
    shown = np.clip(shown, 1, np.maximum(length - 1, 1))
    rows = Rows.make(start, stop, start + shown)
    is_test = draw < test_fraction
    is_eval = ~is_test & (draw < test_fraction + eval_fraction)
    # A single event cannot be both history and target.
    is_train = ~(is_test | is_eval) | (length < 2)
    train = Rows.make(start[is_train], stop[is_train], stop[is_train])
    return {
        features.TRAIN: train,
        features.EVAL: rows.take(is_eval & ~is_train),
        features.TEST: rows.take(is_test & ~is_train),
    }


def by_time(
    offsets: np.ndarray, user: np.ndarray, time: np.ndarray, cuts: tuple[int, int]
) -> Splits:
    """Global cuts: train before the first, eval targets up to the second, then test.

    An eval history holds events before the first cut only, a test history those
    before the second. People without a history at their cut have no row there.

    Args:
      offsets: Where each person's events begin [U + 1].
      user: Person of each event [E].
      time: Time of each event [E].
      cuts: The two cuts; an event at a cut belongs to the later side.
    """
    people = len(offsets) - 1
    start, stop = offsets[:-1], offsets[1:]
    first_cut, second_cut = (
        start + np.bincount(user[time < cut], minlength=people) for cut in cuts
    )
    train = Rows.make(start, first_cut, first_cut)
    evaluated = Rows.make(start, second_cut, first_cut)
    tested = Rows.make(start, stop, second_cut)
    return {
        features.TRAIN: train.take(train.stop > train.start),
        features.EVAL: evaluated.take(_complete(evaluated)),
        features.TEST: tested.take(_complete(tested)),
    }


def by_newest_span(
    offsets: np.ndarray,
    user: np.ndarray,
    time: np.ndarray,
    cut: int,
    draw: np.ndarray,
    eval_fraction: float,
) -> Splits:
    """Train on all before the newest span; judge on what people do in it.

    The events from the cut on are the targets: those of some people to eval, which
    chooses the weights, those of the others to test. People without a history before
    the cut have no row there.

    Args:
      offsets: Where each person's events begin [U + 1].
      user: Person of each event [E].
      time: Time of each event [E].
      cut: What ``last_events`` gives for the events of the newest span.
      draw: A number in [0, 1) for each person [U], from their id.
      eval_fraction: Share of people whose targets are in eval.
    """
    start, stop = offsets[:-1], offsets[1:]
    first_target = start + np.bincount(user[time < cut], minlength=len(start))
    train = Rows.make(start, first_target, first_target)
    judged = Rows.make(start, stop, first_target)
    complete = _complete(judged)
    is_eval = draw < eval_fraction
    return {
        features.TRAIN: train.take(train.stop > train.start),
        features.EVAL: judged.take(complete & is_eval),
        features.TEST: judged.take(complete & ~is_eval),
    }


def last_events(times: np.ndarray, counts: np.ndarray, at_most: float) -> int:
    """The earliest time from which on at most so many events happen.

    Events of one second are never parted. A few late or premature events in a span
    thus hardly move the cut before it, as its earliest event would.

    Args:
      times: Distinct times, ascending.
      counts: Events at each.
      at_most: How many.
    """
    from_here = np.cumsum(counts[::-1])[::-1]  # events at or after each time
    fits = from_here <= at_most + 1e-9
    return int(times[np.argmax(fits)]) if fits.any() else int(times[-1]) + 1


def cut_times(
    times: np.ndarray, counts: np.ndarray, eval_fraction: float, test_fraction: float
) -> tuple[int, int]:
    """The two cuts of ``by_time``.

    Each is the earliest time from which on at most its share of events happens
    (test: ``test_fraction``; eval and test: the sum of both). Events of one second
    are never parted.

    Args:
      times: Distinct times, ascending.
      counts: Events at each.
      eval_fraction: Share of events in eval.
      test_fraction: Share of events in test.
    """
    total = counts.sum()
    return (
        last_events(times, counts, (eval_fraction + test_fraction) * total),
        last_events(times, counts, test_fraction * total),
    )


def chunk(rows: Rows, max_length: int, overlap: int) -> Rows:
    """Cuts rows of train or rest longer than ``max_length`` into overlapping chunks.

    Every chunk but the first begins with ``overlap`` events of context. So each
    event is a target in exactly one chunk, and has its ``overlap`` predecessors
    (or all, if there are fewer) before it there.

    Args:
      rows: Rows with at most ``overlap`` events of context.
      max_length: Longest chunk; more than ``overlap``.
      overlap: The model's history length.
    """
    length = rows.stop - rows.start
    step = max_length - overlap  # new events in a chunk after the first
    chunks = 1 + np.maximum(0, -(-(length - max_length) // step))
    row = np.repeat(np.arange(len(rows)), chunks)
    index = np.arange(len(row)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    start = rows.start[row] + index * step
    stop = np.minimum(start + max_length, rows.stop[row])
    context = np.where(index > 0, overlap, rows.num_context[row])
    return Rows(start, stop, np.zeros_like(start), context, stop - start)


def keep_newest_history(rows: Rows, max_length: int) -> Rows:
    """Drops the oldest events of histories longer than ``max_length``."""
    first_target = rows.stop - rows.num_targets
    start = np.maximum(rows.start, first_target - max_length)
    return Rows(start, rows.stop, rows.num_targets, rows.num_context, rows.history_length)


def _complete(rows: Rows) -> np.ndarray:
    return (rows.num_targets > 0) & (rows.history_length > 0)
