"""Divides sorted events into the rows of train, eval and test.

All functions work on positions in ``Events`` and never on the text of ids, except when people are
drawn.
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
    """R sequences, each of which consists of consecutive events of one person.

    Attributes:
      start: Position of the first event [R].
      stop: Position after the last event [R].
      num_targets: How many events at the end are targets [R]; 0 in train.
      num_context: How many events at the start are never targets [R]; 0 except in train and rest.
      history_length: How many events come before the targets [R]. It still counts events that
        were cut off at the start later.
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
        """Returns rows whose targets are the events from ``first_target`` on."""
        return cls(start, stop, stop - first_target, np.zeros_like(start), first_target - start)

    def positions(self) -> np.ndarray:
        """Returns the positions of the events of all rows, one row after another."""
        lengths = self.stop - self.start
        ends = np.cumsum(lengths)
        total = ends[-1] if len(ends) else 0
        return np.arange(total) + np.repeat(self.start - (ends - lengths), lengths)

    def targets(self) -> "Rows":
        """Returns rows that consist of only the targets of each row."""
        return Rows.make(self.stop - self.num_targets, self.stop, self.stop)

    def take(self, index: np.ndarray | slice) -> "Rows":
        """Returns the rows at ``index`` (positions, a mask or a slice)."""
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
      events: Events of some people; the result for a person does not depend on the others.
      config: The protocol.
      cuts: For the protocol ``time``, the result of ``cut_times`` for the events of all people;
        for ``newest_span``, the result of ``last_events``, twice.

    Raises:
      ValueError: if the protocol needs ``cuts`` and they are None.
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
    """Returns a number in [0, 1) for each person [U], which depends only on the id and ``seed``.

    A person therefore stays in the same split when the data grows.
    """
    key = hashlib.blake2b(str(seed).encode(), digest_size=8).hexdigest()  # 16 characters
    return hash_text(user_ids, key) / 2.0**64


def untrained(events: Events, train: Rows, history_length: int) -> Rows:
    """Returns the split ``rest``: the events that train leaves out, in the form of train rows.

    Each person with such events has one row, which begins with the train events before them as
    context. Train and these rows together contain every event once, apart from the context.

    Args:
      events: The events to which ``train`` refers.
      train: Rows that each contain the oldest events of a person; people may have none.
      history_length: The model's history length, which is enough context.
    """
    first, stop = events.offsets[:-1], events.offsets[1:]
    trained = first.copy()
    trained[events.user[train.start]] = train.stop
    start = np.maximum(first, trained - history_length)
    rows = Rows(start, stop, np.zeros_like(start), trained - start, stop - start)
    return rows.take(stop > trained)


def bound_length(found: Splits, max_length: int, history_length: int) -> Splits:
    """Cuts long rows of train and rest into chunks, and shortens long histories."""
    return {
        split: chunk(rows, max_length, history_length)
        if split in (features.TRAIN, features.REST)
        else keep_newest_history(rows, max_length)
        for split, rows in found.items()
    }


def describe(events: Events, found: Splits) -> dict[str, dict[str, int]]:
    """Returns the counts of each split, before chunking.

    ``events`` is the number of events; in rest it does not include the context, and in eval and
    test it includes histories and targets. ``repeated_targets`` is the number of targets whose item
    is in the full history.
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
    """Assigns each person's last n events to test, the n before to eval and the others to train.

    All events of people with at most 2n events go to train, so that every history has at least one
    event. The history of a test row includes the eval targets.

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
    """Assigns people to train, eval or test; in eval and test, their last events are targets.

    Of L events the first ``floor(L * (1 - target_fraction))`` are the history, but
    at least one event and not all of them. People with one event always go to train.

    Args:
      offsets: Where each person's events begin [U + 1].
      draw: A number in [0, 1) for each person [U], from their id.
      eval_fraction: Share of people in eval.
      test_fraction: Share of people in test.
      target_fraction: Share of a person's events that are targets.
    """
    start, stop = offsets[:-1], offsets[1:]
    length = stop - start
    # The small number keeps rounding errors of the product from lowering the result.
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
    """Cuts time globally: train before the first cut, eval targets between, test targets after.

    An eval history has only events before the first cut, a test history those before the
    second. People without a history before a cut have no row in its split.

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
    """Puts all events before the newest span into train, and makes those in it targets.

    The events from the cut on are the targets: those of some people in eval, which
    chooses the weights, and those of the others in test. People without a history before
    the cut are in neither.

    Args:
      offsets: Where each person's events begin [U + 1].
      user: Person of each event [E].
      time: Time of each event [E].
      cut: The result of ``last_events`` for the number of events in the newest span.
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
    """Returns the earliest time such that at most ``at_most`` events happen then or later.

    Events of the same second are never separated. A few events in a span that are too early or
    too late hardly move this cut, whereas they would move the time of the span's earliest event.

    Args:
      times: Distinct times, ascending.
      counts: The number of events at each time.
      at_most: The largest number of events from the result on.
    """
    from_here = np.cumsum(counts[::-1])[::-1]  # events at or after each time
    fits = from_here <= at_most + 1e-9
    return int(times[np.argmax(fits)]) if fits.any() else int(times[-1]) + 1


def cut_times(
    times: np.ndarray, counts: np.ndarray, eval_fraction: float, test_fraction: float
) -> tuple[int, int]:
    """Returns the two cuts of ``by_time``.

    The second is the earliest time from which at most the share ``test_fraction`` of the events
    happens, the first the earliest from which at most the sum of both shares does. Events of the
    same second are never separated.

    Args:
      times: Distinct times, ascending.
      counts: The number of events at each time.
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

    Every chunk except the first begins with ``overlap`` events of context. Each event that
    is not context in ``rows`` therefore occurs outside the context in exactly one chunk, after
    its ``overlap`` predecessors (or all, if there are fewer).

    Args:
      rows: Rows with at most ``overlap`` events of context.
      max_length: Length of the longest chunk; more than ``overlap``.
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
