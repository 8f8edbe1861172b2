"""Merges predict requests that wait at the same time into one run of the model.

No request waits for others to arrive: if a thread is free, it runs at once. Only requests
that queued while all threads were busy are merged, so at low load the latency is that of a
server without batching.

Requests are merged only if each gets the result that it would get alone: same version,
signature and outputs, equal values of the inputs that have no batch dimension (``k``),
and equal shapes beyond the first dimension. The configuration names the inputs that may
differ in length because they can be padded (``history``), and those among them that must
keep one common shape (``history_time``). What the model would refuse alone is not merged.
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from serving.config import BatchingConfig
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.servable import Servable
from serving.signature import Signature

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(eq=False)
class _Task:
    key: object  # tasks of equal keys may be merged
    servable: Servable
    signature_name: str
    inputs: Arrays
    output_names: tuple[str, ...]
    rows: int  # 0: cannot be merged
    deadline: float  # of the runner's clock
    result: "asyncio.Future[dict[str, np.ndarray]]"


class Runner:
    """Runs models on a pool of threads, merging what may be merged.

    Args:
      config: Sizes and what may be merged.
      metrics: Records run times and batch sizes.
      clock: Gives the seconds by which deadlines are kept.
    """

    def __init__(
        self,
        config: BatchingConfig,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._threads = ThreadPoolExecutor(config.num_threads, thread_name_prefix="model-runner")
        self._free = config.num_threads
        self._queue: collections.deque[_Task] = collections.deque()
        self._running: set[asyncio.Task[None]] = set()

    async def run(
        self,
        servable: Servable,
        signature_name: str,
        inputs: Arrays,
        output_names: tuple[str, ...],
        timeout_seconds: float,
    ) -> dict[str, np.ndarray]:
        """Runs a signature; the caller holds ``servable`` until this returns.

        Args:
          servable: The version.
          signature_name: Its signature.
          inputs: All inputs, checked and completed.
          output_names: Outputs to return.
          timeout_seconds: Time left, queueing included.

        Raises:
          ServingError: the model's, DEADLINE_EXCEEDED, or UNAVAILABLE when the
            queue is full.
        """
        if len(self._queue) >= self._config.max_queued_requests:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"The queue of {self._config.max_queued_requests} requests is full; retry later"
                " or elsewhere",
            )
        key, rows = self._merge_key(servable, signature_name, inputs, output_names)
        task = _Task(
            key=key,
            servable=servable,
            signature_name=signature_name,
            inputs=inputs,
            output_names=output_names,
            rows=rows,
            deadline=self._clock() + timeout_seconds,
            result=asyncio.get_running_loop().create_future(),
        )
        self._queue.append(task)
        self._start()
        return await task.result

    def close(self) -> None:
        """Ends the threads once what they run has ended."""
        self._threads.shutdown()

    def _merge_key(
        self,
        servable: Servable,
        signature_name: str,
        inputs: Arrays,
        output_names: tuple[str, ...],
    ) -> tuple[object, int]:
        alone = object(), 0
        if not self._config.enabled or signature_name not in self._config.signatures:
            return alone
        signature = servable.model.signatures[signature_name]
        if not all(signature.outputs[name].is_batched for name in output_names):
            return alone
        rows = 0
        parts: list[object] = [id(servable), signature_name, output_names]
        # Without a batch dimension in the signature, but one value per row all the same.
        by_row: list[int] = []
        aligned = self._aligned_inputs(signature)
        for name, slot in signature.inputs.items():
            value = inputs[name]
            if name in aligned[1:]:
                if _is_padding(value):
                    parts.append(name)
                    continue
                if value.shape != inputs[aligned[0]].shape:
                    return alone
            if not slot.is_batched or _is_default(signature, name, value):
                parts.append((name, value.shape, tuple(value.ravel().tolist())))
                if slot.shape is None and value.size != 1:
                    by_row.append(value.size if value.ndim == 1 else -1)
                continue
            if rows not in (0, len(value)):
                return alone
            rows = len(value)
            padded = name in self._config.padded_inputs and value.ndim == 2
            # Of aligned inputs, the first one's shape stands for all.
            is_given = name in aligned[1:]
            parts.append(name if is_given else (name, value.ndim if padded else value.shape[1:]))
        if not rows or any(size != rows for size in by_row):
            return alone
        return tuple(parts), rows

    def _aligned_inputs(self, signature: Signature) -> Sequence[str]:
        """Those of ``signature`` that must have one shape, or none if it lacks the first."""
        names = [
            name
            for name in self._config.aligned_inputs
            if name in self._config.padded_inputs and name in signature.inputs
        ]
        return names if names[:1] == [*self._config.aligned_inputs[:1]] else ()

    def _start(self) -> None:
        while self._free and self._queue:
            batch = self._next_batch()
            self._free -= 1
            running = asyncio.create_task(self._run_batch(batch))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    def _next_batch(self) -> list[_Task]:
        first = self._queue.popleft()
        batch, rows, left = [first], first.rows, collections.deque[_Task]()
        while self._queue and first.rows and rows < self._config.max_batch_size:
            task = self._queue.popleft()
            if task.key == first.key and rows + task.rows <= self._config.max_batch_size:
                batch.append(task)
                rows += task.rows
            else:
                left.append(task)
        left.extend(self._queue)
        self._queue = left
        return batch

    async def _run_batch(self, batch: list[_Task]) -> None:
        try:
            now = self._clock()
            for task in batch:
                if task.deadline <= now and not task.result.done():
                    task.result.set_exception(_deadline_exceeded())
            batch = [task for task in batch if not task.result.done()]
            if not batch:
                return
            self._metrics.batch_size.labels(batch[0].servable.name).observe(len(batch))
            # Held here too, because a caller may go away while its model runs.
            with batch[0].servable.hold():
                results = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._run_tasks, batch
                )
            for task, result in zip(batch, results, strict=True):
                if task.result.done():  # its caller has gone
                    continue
                if isinstance(result, ServingError):
                    task.result.set_exception(result)
                else:
                    task.result.set_result(result)
        except Exception as e:
            for task in batch:
                if not task.result.done():
                    task.result.set_exception(e)
        finally:
            self._free += 1
            self._start()

    def _run_tasks(self, batch: Sequence[_Task]) -> list[dict[str, np.ndarray] | ServingError]:
        try:
            return [*self._run_merged(batch)]
        except ServingError as e:
            if len(batch) == 1:
                return [e]
        # One bad request must not fail those that it was merged with.
        return [result for task in batch for result in self._run_tasks([task])]

    def _run_merged(self, batch: Sequence[_Task]) -> list[dict[str, np.ndarray]]:
        first = batch[0]
        inputs = first.inputs if len(batch) == 1 else self._merge_inputs(batch)
        started = self._clock()
        timeout_ms = int(1000 * (max(task.deadline for task in batch) - started))
        if timeout_ms <= 0:
            raise _deadline_exceeded()
        outputs = first.servable.model.run(
            first.signature_name, inputs, first.output_names, timeout_ms
        )
        self._metrics.run_latency.labels(first.servable.name, first.signature_name).observe(
            self._clock() - started
        )
        if len(batch) == 1:
            return [outputs]
        ends = np.cumsum([task.rows for task in batch])
        return [
            {name: value[end - task.rows : end] for name, value in outputs.items()}
            for task, end in zip(batch, ends, strict=True)
        ]

    def _merge_inputs(self, batch: Sequence[_Task]) -> dict[str, np.ndarray]:
        """Concatenates the batched inputs; the others are equal in all tasks."""
        first = batch[0]
        signature = first.servable.model.signatures[first.signature_name]
        aligned = self._aligned_inputs(signature)
        merged = {}
        for name, slot in signature.inputs.items():
            values = [task.inputs[name] for task in batch]
            if name in aligned[1:]:
                # Padding alone may have any shape, but only in a request that runs alone.
                shapes = [task.inputs[aligned[0]].shape for task in batch]
                values = [
                    np.full(shape, _padding_of(value), value.dtype) if _is_padding(value) else value
                    for value, shape in zip(values, shapes, strict=True)
                ]
            # Of an input of any rank, equal in all tasks: one value per row, or one for all.
            is_by_row = slot.shape is None and values[0].size > 1
            if not (slot.is_batched or is_by_row) or _is_default(signature, name, values[0]):
                merged[name] = values[0]
                continue
            if values[0].ndim == 2:
                width = max(value.shape[1] for value in values)
                values = [_pad(value, width) for value in values]
            merged[name] = np.concatenate(values)
        return merged


def _pad(value: np.ndarray, width: int) -> np.ndarray:
    """Pads rows with empty strings or zeros to ``width``."""
    if value.shape[1] == width:
        return value
    padded = np.full((len(value), width), _padding_of(value), value.dtype)
    padded[:, : value.shape[1]] = value
    return padded


def _padding_of(value: np.ndarray) -> bytes | int:
    return b"" if value.dtype == object else 0


def _is_padding(value: np.ndarray) -> bool:
    return bool(np.all(value == _padding_of(value)))


def _is_default(signature: Signature, name: str, value: np.ndarray) -> bool:
    """Whether a request left this input out (defaults are passed by reference)."""
    return signature.defaults.get(name) is value


def _deadline_exceeded() -> ServingError:
    return ServingError(
        grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for the model; retry later"
    )
