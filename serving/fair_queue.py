"""The queue before the model's threads: bounded, and fair between those who wait.

The order is that of self-clocked fair queueing (S. J. Golestani, "A self-clocked fair queueing
scheme for broadband applications", INFOCOM 1994, equations 4 and 5). Each piece of work gets a
tag ``F = max(F', v) + cost``, where ``F'`` is the tag of the piece before it from the same caller
and ``v`` the tag of the piece that was begun last, and the smallest tag is next. A small request
overtakes the large ones that wait, a caller with many requests shares the model evenly with a
caller of few, and nobody waits for ever, since ``v`` grows with all that is done.
"""

import bisect
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

_Work = TypeVar("_Work")


class QueueFullError(Exception):
    """There is no room, and the caller's own share of the queue is not the smaller one."""


@dataclasses.dataclass(eq=False)
class Job(Generic[_Work]):
    """What one request asks for, as pieces that are run one after the other.

    Attributes:
      flow: Whose it is.
      waiting: The pieces that are in the queue.
      has_begun: Whether a piece of it has left the queue to be run.
    """

    flow: Hashable
    waiting: "set[Piece[_Work]]"
    has_begun: bool = False


@dataclasses.dataclass(eq=False)
class Piece(Generic[_Work]):
    """A part of a job that is run at once.

    Attributes:
      work: What is to be run.
      cost: How much work it is.
      job: What it is a part of.
      tag: By which pieces are ordered; equal tags in the order in which they came.
    """

    work: _Work
    cost: int
    job: Job[_Work]
    tag: tuple[int, int]


class FairQueue(Generic[_Work]):
    """Orders the pieces of jobs fairly, and bounds how many there are.

    Where there is no room, the caller with the most work in the queue gives way: its newest job
    that has not begun is put out in favour of one from a caller with less.

    Args:
      max_jobs: Jobs that wait, at most.
      max_cost: Cost of all pieces that wait, at most. A job that costs more is let into a queue
        that is empty.
    """

    def __init__(self, max_jobs: int, max_cost: int):
        self._max_jobs = max_jobs
        self._max_cost = max_cost
        self._pieces: list[Piece[_Work]] = []  # by tag
        self._jobs = 0
        self._cost = 0
        self._flow_cost: dict[Hashable, int] = {}
        self._flow_tag: dict[Hashable, int] = {}  # of its last piece
        self._virtual_time = 0
        self._count = 0

    def __len__(self) -> int:
        """Number of jobs with a piece that waits."""
        return self._jobs

    @property
    def cost(self) -> int:
        """Cost of all pieces that wait."""
        return self._cost

    def may_enter(self, flow: Hashable, cost: int) -> bool:
        """Whether a job of ``cost`` would be let in now."""
        is_room = self._jobs < self._max_jobs and self._cost + cost <= self._max_cost
        return (
            is_room
            or not self._jobs
            or max(self._flow_cost.values()) > self._flow_cost.get(flow, 0) + cost
        )

    def put(
        self, flow: Hashable, pieces: Sequence[tuple[_Work, int]]
    ) -> tuple[Job[_Work], list[_Work]]:
        """Adds a job.

        Args:
          flow: Whose it is.
          pieces: Work and cost of each of its pieces.

        Returns:
          The job, and the work of the jobs that were put out for it, whose owners are to be told.

        Raises:
          QueueFullError: no room, and nobody has more in the queue than this caller would have.
        """
        cost = sum(cost for _, cost in pieces)
        victims: list[Job[_Work]] = []
        while self._jobs and (self._jobs >= self._max_jobs or self._cost + cost > self._max_cost):
            victim = self._largest_flows_newest(self._flow_cost.get(flow, 0) + cost)
            if victim is None:
                # Whoever was put out for nothing comes back to the same place.
                for kept in victims:
                    self._insert(kept)
                raise QueueFullError
            self._remove(victim)
            victims.append(victim)
        job: Job[_Work] = Job(flow, set())
        tag = max(self._flow_tag.get(flow, 0), self._virtual_time)
        for work, piece_cost in pieces:
            tag += piece_cost
            self._count += 1
            job.waiting.add(Piece(work, piece_cost, job, (tag, self._count)))
        self._insert(job)
        put_out = [piece.work for victim in victims for piece in victim.waiting]
        for victim in victims:
            victim.waiting.clear()
        return job, put_out

    def pop(self) -> _Work:
        """Takes the piece that is next; there must be one."""
        piece = self._pieces.pop(0)
        self._virtual_time = piece.tag[0]
        return self._begin(piece)

    def take(self, is_wanted: Callable[[_Work], bool]) -> Iterator[_Work]:
        """Takes the pieces that are wanted, in their order; not to be mixed with other calls."""
        position = 0
        while position < len(self._pieces):
            if is_wanted(self._pieces[position].work):
                yield self._begin(self._pieces.pop(position))
            else:
                position += 1

    def discard(self, job: Job[_Work]) -> None:
        """Takes back what waits of a job, because nobody waits for its answer any longer."""
        if job.waiting:
            self._remove(job)
            job.waiting.clear()

    def _begin(self, piece: Piece[_Work]) -> _Work:
        job = piece.job
        job.has_begun = True
        job.waiting.discard(piece)
        self._account(job, -piece.cost, ended=not job.waiting)
        return piece.work

    def _insert(self, job: Job[_Work]) -> None:
        for piece in job.waiting:
            bisect.insort(self._pieces, piece, key=lambda piece: piece.tag)
        self._jobs += 1
        last = max(piece.tag[0] for piece in job.waiting)
        self._flow_tag[job.flow] = max(self._flow_tag.get(job.flow, 0), last)
        self._account(job, sum(piece.cost for piece in job.waiting), ended=False)

    def _remove(self, job: Job[_Work]) -> None:
        self._pieces = [piece for piece in self._pieces if piece.job is not job]
        of_flow = [piece.tag[0] for piece in self._pieces if piece.job.flow == job.flow]
        self._flow_tag[job.flow] = max(of_flow, default=0)
        self._account(job, -sum(piece.cost for piece in job.waiting), ended=True)

    def _account(self, job: Job[_Work], cost: int, *, ended: bool) -> None:
        self._jobs -= ended
        self._cost += cost
        left = self._flow_cost.get(job.flow, 0) + cost
        if left:
            self._flow_cost[job.flow] = left
        else:
            # What has begun has no tag later than the virtual time, and what was taken back is
            # not counted against the caller.
            self._flow_cost.pop(job.flow, None)
            self._flow_tag.pop(job.flow, None)

    def _largest_flows_newest(self, than: int) -> Job[_Work] | None:
        """The newest job, not begun, of a caller with more than ``than``; None without one."""
        largest = max(self._flow_cost.values(), default=0)
        if largest <= than:
            return None
        for piece in reversed(self._pieces):
            job = piece.job
            if self._flow_cost[job.flow] == largest and not job.has_begun:
                return job
        return None
