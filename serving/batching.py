"""Runs predict requests on the model's threads: fairly, in blocks, and merged where possible.

No request waits for others to arrive: if a thread is free, the request runs at once. Only requests
that queued while all threads were busy are merged, so at low load the latency is that of a server
without batching. ``FairQueue`` orders the waiting requests. A request of many rows is split into
blocks, so that other requests can run in between.
"""

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Hashable, Sequence

import grpc
import numpy as np

from serving.config import BatchingConfig
from serving.errors import ServingError, unavailable
from serving.fair_queue import FairQueue, QueueFullError
from serving.limits import Work
from serving.merging import Arrays, Merging
from serving.metrics import Metrics
from serving.servable import Servable
from serving.threads import background_threads

_ONE_ROW = Work()
# Work of at most this cost is small: it runs beside large work and does not wait for a thread.
_SMALL = 8
# Weight of the newest request in the running mean of the cost per byte.
_NEWEST_WEIGHT = 0.05


@dataclasses.dataclass(eq=False)
class _Request:
    """A request whose caller waits for the answers of all its blocks."""

    answers: list[dict[str, np.ndarray] | None]
    result: "asyncio.Future[dict[str, np.ndarray]]"

    @property
    def has_ended(self) -> bool:
        """Whether nobody waits for the answer any longer."""
        return self.result.done()

    def answer(self, block: int, outputs: dict[str, np.ndarray]) -> None:
        self.answers[block] = outputs
        if self.has_ended or any(answer is None for answer in self.answers):
            return
        if len(self.answers) == 1:
            self.result.set_result(outputs)
            return
        self.result.set_result(
            {
                name: np.concatenate([answer[name] for answer in self.answers if answer])
                for name in outputs
            }
        )

    def fail(self, error: Exception) -> None:
        if not self.has_ended:
            self.result.set_exception(error)


@dataclasses.dataclass(eq=False)
class _Block:
    """Rows of a request that run together."""

    request: _Request
    position: int
    key: object  # blocks of equal keys may be merged
    servable: Servable
    signature_name: str
    inputs: Arrays
    output_names: tuple[str, ...]
    rows: int  # 0: cannot be merged
    cost: int
    queued_at: float  # of the runner's clock, as the deadline is
    deadline: float


class Runner:
    """Runs models on a pool of threads and merges requests where possible.

    Args:
      config: Sizes, and which signatures and inputs may be merged.
      metrics: Records run times and batch sizes.
      clock: Returns the current time in seconds, by which deadlines are measured.
    """

    def __init__(
        self,
        config: BatchingConfig,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._config = config
        self._merging = Merging(config)
        self._metrics = metrics
        self._clock = clock
        # One extra thread, for small work while all other threads run large work.
        self._threads = background_threads(config.num_threads + 1, "model-runner")
        self._free = config.num_threads
        self._is_express_free = True
        self._large_runs = 0
        self._queue = FairQueue[_Block](config.max_queued_requests, config.max_queued_work)
        self._running: set[asyncio.Task[None]] = set()
        self._work_per_byte = 0.0

    def admit(self, flow: Hashable, num_bytes: int) -> None:
        """Refuses a request before it is decoded if the queue would not accept it afterwards.

        The amount of work is estimated from the size, by the cost per byte of earlier requests.

        Args:
          flow: Who sent the request.
          num_bytes: Size of the request.

        Raises:
          ServingError: UNAVAILABLE.
        """
        work = math.ceil(num_bytes * self._work_per_byte) or 1
        if not self._queue.may_enter(flow, work):
            raise self._refusal("queue_full")

    async def run(
        self,
        servable: Servable,
        signature_name: str,
        inputs: Arrays,
        output_names: tuple[str, ...],
        timeout_seconds: float,
        *,
        work: Work = _ONE_ROW,
        flow: Hashable = None,
        num_bytes: int = 0,
    ) -> dict[str, np.ndarray]:
        """Runs a signature; the caller holds ``servable`` until this returns.

        servable: The version to run.
          signature_name: The signature to run.
          signature_name: Its signature.
          inputs: All inputs, checked and completed.
          output_names: Outputs to return.
          timeout_seconds: Time left, including the time in the queue.
          work: Amount of work requested.
          flow: Who sent the request; the model's time is shared evenly between flows.
          num_bytes: Size of the request as received; 0 if unknown.

        Raises:
          ServingError: the model's error, DEADLINE_EXCEEDED, or UNAVAILABLE when the queue is full.
        """
        if num_bytes:
            self._work_per_byte += _NEWEST_WEIGHT * (work.cost / num_bytes - self._work_per_byte)
        loop = asyncio.get_running_loop()
        blocks = self._blocks(
            servable,
            signature_name,
            inputs,
            output_names,
            timeout_seconds,
            work,
            loop.create_future(),
        )
        request = blocks[0].request
        try:
            job, put_out = self._queue.put(flow, [(block, block.cost) for block in blocks])
        except QueueFullError:
            raise self._refusal("queue_full") from None
        for block in put_out:
            if not block.request.has_ended:
                block.request.fail(self._refusal("caller_share"))
        self._start()
        expiry = loop.call_later(timeout_seconds, request.fail, _deadline_exceeded())
        try:
            return await request.result
        except asyncio.CancelledError:
            self._metrics.abandoned_requests.labels("run" if job.has_begun else "queue").inc()
            raise
        finally:
            expiry.cancel()
            self._queue.discard(job)
            self._show_queue()

    def close(self) -> None:
        """Stops the threads once the work that they are running has finished."""
        self._threads.shutdown()

    def _refusal(self, reason: str) -> ServingError:
        self._metrics.refused_requests.labels(reason).inc()
        return unavailable(
            f"The queue is full: {len(self._queue)} requests are waiting, of at most"
            f" {self._config.max_queued_requests} (batching_max_queued_requests), with"
            f" {self._queue.cost} rows of work, of at most {self._config.max_queued_work}"
            " (batching_max_queued_work); retry later or elsewhere"
        )

    def _blocks(
        self,
        servable: Servable,
        signature_name: str,
        inputs: Arrays,
        output_names: tuple[str, ...],
        timeout_seconds: float,
        work: Work,
        result: "asyncio.Future[dict[str, np.ndarray]]",
    ) -> list[_Block]:
        """Splits a request into blocks of ``max_batch_size`` rows if its rows are independent."""
        key, rows = self._merging.key(servable, signature_name, inputs, output_names)
        parts = self._merging.cut(servable.model.signatures[signature_name], inputs, rows)
        request = _Request([None] * len(parts), result)
        now = self._clock()
        return [
            _Block(
                request=request,
                position=position,
                key=key,
                servable=servable,
                signature_name=signature_name,
                inputs=part,
                output_names=output_names,
                rows=part_rows,
                cost=math.ceil(work.cost / len(parts)),
                queued_at=now,
                deadline=now + timeout_seconds,
            )
            for position, (part, part_rows) in enumerate(parts)
        ]

    def _start(self) -> None:
        while self._free and len(self._queue):
            self._free -= 1
            self._run(self._next_batch(self._queue.pop()), self._free_thread)
        if self._is_express_free and self._large_runs == self._config.num_threads:
            first = next(self._queue.take(lambda block: block.cost <= _SMALL), None)
            if first is not None:
                self._is_express_free = False
                self._run(self._next_batch(first, _SMALL), self._free_express)
        self._show_queue()

    def _show_queue(self) -> None:
        self._metrics.queued_requests.set(len(self._queue))
        self._metrics.queued_work.set(self._queue.cost)

    def _run(self, batch: list[_Block], ended: Callable[[], None]) -> None:
        cost = sum(block.cost for block in batch)
        self._large_runs += cost > _SMALL
        running = asyncio.create_task(self._run_batch(batch))
        self._running.add(running)

        def end(task: "asyncio.Task[None]") -> None:
            self._running.discard(task)
            self._large_runs -= cost > _SMALL
            ended()
            self._start()

        running.add_done_callback(end)

    def _free_thread(self) -> None:
        self._free += 1

    def _free_express(self) -> None:
        self._is_express_free = True

    def _next_batch(self, first: _Block, max_rows: int | None = None) -> list[_Block]:
        """Returns ``first`` and blocks to merge with it, up to ``max_rows`` or the batch size."""
        size = min(max_rows or self._config.max_batch_size, self._config.max_batch_size)
        batch, rows = [first], first.rows

        def fits(block: _Block) -> bool:
            return block.key == first.key and rows + block.rows <= size

        if first.rows:
            for block in self._queue.take(fits):
                batch.append(block)
                rows += block.rows
        return batch

    async def _run_batch(self, batch: list[_Block]) -> None:
        try:
            now = self._clock()
            for block in batch:
                if block.deadline <= now:
                    block.request.fail(_deadline_exceeded())
            batch = [block for block in batch if not block.request.has_ended]
            if not batch:
                return
            name = batch[0].servable.name
            self._metrics.batch_size.labels(name).observe(len(batch))
            for block in batch:
                self._metrics.queue_wait.labels(name).observe(now - block.queued_at)
            # Hold the version here too, because a caller may disconnect while its model runs.
            with batch[0].servable.hold():
                results = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._run_blocks, batch
                )
            for block, result in zip(batch, results, strict=True):
                if isinstance(result, ServingError):
                    block.request.fail(result)
                else:
                    block.request.answer(block.position, result)
        except Exception as e:
            for block in batch:
                block.request.fail(e)

    def _run_blocks(self, batch: Sequence[_Block]) -> list[dict[str, np.ndarray] | ServingError]:
        try:
            return [*self._run_merged(batch)]
        except ServingError as e:
            if len(batch) == 1:
                return [e]
        # One bad request must not make the requests fail that it was merged with.
        return [result for block in batch for result in self._run_blocks([block])]

    def _run_merged(self, batch: Sequence[_Block]) -> list[dict[str, np.ndarray]]:
        first = batch[0]
        inputs = first.inputs
        if len(batch) > 1:
            signature = first.servable.model.signatures[first.signature_name]
            inputs = self._merging.merge(signature, [block.inputs for block in batch])
        started = self._clock()
        timeout_ms = int(1000 * (max(block.deadline for block in batch) - started))
        if timeout_ms <= 0:
            raise _deadline_exceeded()
        outputs = first.servable.model.run(
            first.signature_name, inputs, first.output_names, timeout_ms
        )
        self._metrics.observe_run(
            first.servable.name, first.signature_name, self._clock() - started
        )
        if len(batch) == 1:
            return [outputs]
        ends = np.cumsum([block.rows for block in batch])
        return [
            {name: value[end - block.rows : end] for name, value in outputs.items()}
            for block, end in zip(batch, ends, strict=True)
        ]


def _deadline_exceeded() -> ServingError:
    return ServingError(
        grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for the model; retry later"
    )
