"""The bounded queue in front of the model's threads, which treats all callers fairly.

The order is that of fair queueing (A. Demers, S. Keshav, S. Shenker, "Analysis and simulation of
a fair queueing algorithm", SIGCOMM 1989, section 2.2): the order in which pieces of work would be
done if each caller with work in the queue got a unit of it in turn. ``R`` is the number of such
rounds; a piece is tagged ``F = max(F', R) + cost``, with the tag ``F'`` of the piece before it from
the same caller, and the piece with the smallest tag is next. A small request overtakes waiting
large ones, a caller with many requests shares the model evenly with a caller of few, and nobody
waits forever, since ``R`` grows with all completed work.
"""

import bisect
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

_Work = TypeVar("_Work")


_FLOWS_REMEMBERED = 1000  # in addition to those with waiting work


class QueueFullError(Exception):
    """The queue is full, and the caller's share of it is not smaller than all others."""


@dataclasses.dataclass(eq=False)
class Job(Generic[_Work]):
    """The work of one request, as pieces that are run one after the other.

    Attributes:
      flow: Who sent the request.
      waiting: Pieces that are in the queue.
      has_begun: Whether one of its pieces has left the queue to be run.
    """

    flow: Hashable
    waiting: "set[Piece[_Work]]"
    has_begun: bool = False


@dataclasses.dataclass(eq=False)
class Piece(Generic[_Work]):
    """A part of a job that is run in one go.

    Attributes:
      work: What to run.
      cost: Amount of work.
      job: The job that it belongs to.
      tag: Sort key of the pieces; pieces with equal tags keep their order of arrival.
    """

    work: _Work
    cost: int
    job: Job[_Work]
    tag: tuple[float, int]


class FairQueue(Generic[_Work]):
    """Orders the pieces of jobs fairly, and limits their number.

    If the queue is full, the caller with the most work in it gives way: its newest job that has
    not begun is evicted in favour of a job from a caller with less.

    Args:
      max_jobs: Most jobs that may wait.
      max_cost: Most cost of all waiting pieces. A job that costs more is accepted only if the queue
        is empty.
    """

    def __init__(self, max_jobs: int, max_cost: int):
        self._max_jobs = max_jobs
        self._max_cost = max_cost
        self._pieces: list[Piece[_Work]] = []  # sorted by tag
        self._jobs = 0
        self._cost = 0
        self._flow_cost: dict[Hashable, int] = {}
        self._flow_tag: dict[Hashable, float] = {}  # tag of the flow's last piece
        self._rounds = 0.0
        self._count = 0

    def __len__(self) -> int:
        """Returns the number of jobs with a waiting piece."""
        return self._jobs

    @property
    def cost(self) -> int:
        """The cost of all waiting pieces."""
        return self._cost

    def may_enter(self, flow: Hashable, cost: int) -> bool:
        """Whether a job of ``cost`` would be accepted now."""
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
          flow: Who sent the request.
          pieces: Work and cost of each piece.

        Returns:
          The job, and the work of the jobs that were evicted for it, whose owners must be told.

        Raises:
          QueueFullError: the queue is full, and no other caller has more work in it than this one
            would.
        """
        cost = sum(cost for _, cost in pieces)
        victims = self._victims(flow, cost)
        for victim in victims:
            self._remove(victim)
        job: Job[_Work] = Job(flow, set())
        tag = max(self._flow_tag.get(flow, 0.0), self._rounds)
        for work, piece_cost in pieces:
            tag += piece_cost
            self._count += 1
            job.waiting.add(Piece(work, piece_cost, job, (tag, self._count)))
        self._flow_tag[flow] = tag
        self._insert(job)
        put_out = [piece.work for victim in victims for piece in victim.waiting]
        for victim in victims:
            victim.waiting.clear()
        return job, put_out

    def pop(self) -> _Work:
        """Removes and returns the next piece; the queue must not be empty."""
        return self._begin(self._pieces.pop(0))

    def take(self, is_wanted: Callable[[_Work], bool]) -> Iterator[_Work]:
        """Removes and yields the wanted pieces in order; make no other calls while iterating."""
        position = 0
        while position < len(self._pieces):
            if is_wanted(self._pieces[position].work):
                yield self._begin(self._pieces.pop(position))
            else:
                position += 1

    def discard(self, job: Job[_Work]) -> None:
        """Removes the waiting pieces of a job because nobody waits for its answer any longer."""
        if job.waiting:
            self._remove(job)
            job.waiting.clear()

    def _begin(self, piece: Piece[_Work]) -> _Work:
        job = piece.job
        job.has_begun = True
        job.waiting.discard(piece)
        self._rounds += piece.cost / len(self._flow_cost)
        self._account(job, -piece.cost, ended=not job.waiting)
        return piece.work

    def _insert(self, job: Job[_Work]) -> None:
        for piece in job.waiting:
            bisect.insort(self._pieces, piece, key=lambda piece: piece.tag)
        self._jobs += 1
        self._account(job, sum(piece.cost for piece in job.waiting), ended=False)

    def _remove(self, job: Job[_Work]) -> None:
        self._pieces = [piece for piece in self._pieces if piece.job is not job]
        # Removed work does not count against the caller.
        self._flow_tag[job.flow] -= sum(piece.cost for piece in job.waiting)
        self._account(job, -sum(piece.cost for piece in job.waiting), ended=True)

    def _account(self, job: Job[_Work], cost: int, *, ended: bool) -> None:
        self._jobs -= ended
        self._cost += cost
        left = self._flow_cost.get(job.flow, 0) + cost
        if left:
            self._flow_cost[job.flow] = left
        else:
            del self._flow_cost[job.flow]
        if not self._flow_cost:
            # Nobody is waiting, so nobody is ahead of anybody else.
            self._rounds = 0.0
            self._flow_tag.clear()
        elif len(self._flow_tag) > _FLOWS_REMEMBERED + 2 * len(self._flow_cost):
            self._flow_tag = {
                flow: tag
                for flow, tag in self._flow_tag.items()
                if tag > self._rounds or flow in self._flow_cost
            }

    def _victims(self, flow: Hashable, cost: int) -> list[Job[_Work]]:
        """Returns the jobs to evict for a job of ``flow``. Raises QueueFullError if none may be."""
        victims: list[Job[_Work]] = []
        jobs, total, by_flow = self._jobs, self._cost, dict(self._flow_cost)
        while jobs and (jobs >= self._max_jobs or total + cost > self._max_cost):
            largest = max(by_flow.values())
            if largest <= by_flow.get(flow, 0) + cost:
                raise QueueFullError
            victim = next(
                (
                    piece.job
                    for piece in reversed(self._pieces)
                    if by_flow[piece.job.flow] == largest
                    and not piece.job.has_begun
                    and piece.job not in victims
                ),
                None,
            )
            if victim is None:
                raise QueueFullError
            victims.append(victim)
            freed = sum(piece.cost for piece in victim.waiting)
            jobs, total = jobs - 1, total - freed
            by_flow[victim.flow] -= freed
        return victims
