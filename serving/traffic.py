"""Splits requests between the stable version and a canary, and withdraws a bad canary.

Callers should not suffer from a trial: if the canary fails to answer a request, the stable version
answers it at once. That also shows whose fault it was. If the stable version refuses the request as
well, the client is at fault. If it answers, the canary is at fault, whatever its status, because
defects of a model often appear as INVALID_ARGUMENT.
"""

import asyncio
import dataclasses
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis import model_pb2

from contract import release_changes, release_file
from contract.release import CANARY, STABLE, ReleaseError
from contract.signatures import ITEM_IDS, PADDING
from serving import tracing
from serving.canary import Sample, Verdict, Window, is_routed_to_canary, judge
from serving.configured_model import ConfiguredModel
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.servable import Servable

_log = logging.getLogger(__name__)
_NO_ITEM = PADDING.encode()

_Answer = TypeVar("_Answer")
Outputs = Mapping[str, np.ndarray]
Attempt = Callable[[Servable], Awaitable[tuple[Outputs, _Answer]]]

# Failures of the server as a whole, not of a version: asking again would make them worse.
_OVERLOAD = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
# After a missed deadline, there is no time to ask again either.
_NOT_ASKED_AGAIN = {*_OVERLOAD, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclasses.dataclass(frozen=True)
class _Outcome(Generic[_Answer]):
    """The result of a request on one version."""

    answer: tuple[Outputs, _Answer] | None
    error: Exception | None
    seconds: float

    @property
    def code(self) -> grpc.StatusCode:
        if self.error is None:
            return grpc.StatusCode.OK
        if isinstance(self.error, ServingError):
            return self.error.code
        return grpc.StatusCode.INTERNAL

    @property
    def empty(self) -> float:
        """Share of the rows of the answer that have no item."""
        return _empty_share(self.answer[0]) if self.answer else 0.0

    def result(self) -> tuple[Outputs, _Answer]:
        """Returns the answer, or raises the error."""
        if self.answer is None:
            assert self.error is not None
            raise self.error
        return self.answer


class Traffic:
    """Distributes requests among versions.

    Args:
      manager: Provides the versions.
      metrics: Counts requests by label.
      clock: Returns the current time in seconds.
      draw: Returns a random number from 0 to 1, for callers without a key.
    """

    def __init__(
        self,
        manager: ModelManager,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ):
        self._manager = manager
        self._metrics = metrics
        self._clock = clock
        self._draw = draw
        # By model; restarted whenever the stable version or the canary changes.
        self._trials: dict[str, tuple[tuple[int, int], dict[str, Window]]] = {}
        self._unwritten: dict[str, str] = {}

    async def answer(
        self, spec: model_pb2.ModelSpec, key: str, attempt: Attempt[_Answer]
    ) -> tuple[Outputs, _Answer]:
        """Answers a predict request.

        Args:
          spec: The model, and the version or label if the request names one.
          key: The caller's key; empty if it has none.
          attempt: Decodes the request and runs it on the given version, which is held meanwhile.

        Raises:
          ServingError: there is no such version, or ``attempt`` raises it.
        """
        servable = self._manager.get(spec)
        model = self._manager.model(spec.name)
        canary = self._canary_for(model, spec, key)
        if canary is not None:
            return await self._try(model, canary, spec, attempt)
        is_routed = spec.WhichOneof("version_choice") is None
        outcome = await self._run(model, servable, attempt, is_judged=is_routed)
        if is_routed and outcome.error is None:
            self._note(model, servable, outcome.seconds)
        return outcome.result()

    async def _try(
        self,
        model: ConfiguredModel,
        canary: Servable,
        spec: model_pb2.ModelSpec,
        attempt: Attempt[_Answer],
    ) -> tuple[Outputs, _Answer]:
        """Asks the canary, and then the stable version if the canary fails."""
        tried = await self._run(model, canary, attempt, is_judged=True)
        if tried.code in _NOT_ASKED_AGAIN:
            return tried.result()
        if tried.error is None and not tried.empty:
            self._note(model, canary, tried.seconds)
            return tried.result()
        stable = self._manager.get(spec)
        if stable is canary:  # promoted meanwhile
            return tried.result()
        # Not judged: this request was not routed to the stable version.
        reference = await self._run(model, stable, attempt, is_judged=False)
        if tried.error is not None:
            if reference.error is not None:
                return reference.result()
            self._log_failure(model, canary, tried.error)
            self._note(model, canary, None, is_error=True)
        else:
            lacking = 0.0 if reference.error else max(0.0, tried.empty - reference.empty)
            self._note(model, canary, tried.seconds, empty=lacking)
            if not lacking:
                return tried.result()
        self._metrics.release_fallbacks.labels(model.name).inc()
        return reference.result()

    def _log_failure(self, model: ConfiguredModel, canary: Servable, error: Exception) -> None:
        """Logs why the canary failed, the first time within a window."""
        if model.canary is None or self._windows(model)[CANARY].error_share():
            return
        _log.warning(
            "canary failed",
            extra={
                "model": model.name,
                "version": canary.version,
                "error": error.public_message
                if isinstance(error, ServingError)
                else type(error).__name__,
            },
            exc_info=None if isinstance(error, ServingError) else error,
        )

    async def check(self) -> None:
        """Judges every canary, and withdraws those that do worse than allowed."""
        for model in self._manager.models():
            try:
                await self._check(model)
            except Exception:
                _log.exception("canary cannot be judged", extra={"model": model.name})

    async def _check(self, model: ConfiguredModel) -> None:
        canary = model.release.canary
        if model.rejected is not None:
            await self._write_withdrawal(model)
        elif canary is not None and canary.version == model.canary:
            windows = self._windows(model)
            verdict = judge(windows[CANARY], windows[STABLE], canary.limits, self._clock())
            if verdict is not None:
                await self._take_back(model, verdict)
        else:
            self._trials.pop(model.name, None)

    async def _take_back(self, model: ConfiguredModel, verdict: Verdict) -> None:
        assert model.canary is not None
        _log.error(
            "canary taken back",
            extra={"model": model.name, "version": model.canary, "error": verdict.reason},
        )
        self._metrics.canary_rollbacks.labels(model.name, verdict.cause).inc()
        # From here on, this server sends no request to the canary, whether or not the state can be
        # written.
        model.rejected = model.canary, verdict.reason
        model.canary = None
        del self._trials[model.name]
        await self._write_withdrawal(model)

    async def _write_withdrawal(self, model: ConfiguredModel) -> None:
        """Tells other servers, and this one after a restart; retried until it succeeds."""
        assert model.rejected is not None
        version, reason = model.rejected
        by = f"the server on {socket.gethostname()}"
        try:
            await asyncio.to_thread(
                release_file.change,
                model.base_path,
                lambda state: release_changes.end_canary(
                    state, by=by, reason=reason, version=version
                ),
            )
        except (ReleaseError, OSError) as e:
            if self._unwritten.get(model.name) != str(e):
                _log.error("withdrawal not written", extra={"model": model.name, "error": str(e)})
            self._unwritten[model.name] = str(e)
            return
        self._unwritten.pop(model.name, None)
        await self._manager.poll()

    def _canary_for(
        self, model: ConfiguredModel, spec: model_pb2.ModelSpec, key: str
    ) -> Servable | None:
        """Returns the canary, if it is to answer the request."""
        canary = model.release.canary
        if spec.WhichOneof("version_choice") is not None or canary is None:
            return None
        servable = model.servables.get(canary.version)
        if canary.version != model.canary or servable is None or not servable.is_available:
            return None
        if key:
            is_routed = is_routed_to_canary(key, model.name, canary.version, canary.share)
        else:
            is_routed = self._draw() < canary.share
        return servable if is_routed else None

    async def _run(
        self,
        model: ConfiguredModel,
        servable: Servable,
        attempt: Attempt[_Answer],
        *,
        is_judged: bool,
    ) -> _Outcome[_Answer]:
        label = model.label_of(servable.version)
        started = self._clock()
        answer: tuple[Outputs, _Answer] | None = None
        error: Exception | None = None
        try:
            with servable.hold():
                answer = await attempt(servable)
        except asyncio.CancelledError:
            # The client stopped waiting, or the server's own time limit was reached.
            self._count(model, label, grpc.StatusCode.CANCELLED)
            if is_judged:
                self._note(model, servable, self._clock() - started, is_error=True)
            raise
        except Exception as e:
            error = e
        outcome = _Outcome(answer, error, self._clock() - started)
        self._count(model, label, outcome.code)
        if is_judged and outcome.code == grpc.StatusCode.DEADLINE_EXCEEDED:
            self._note(model, servable, outcome.seconds, is_error=True)
        if error is None:
            self._metrics.release_latency.labels(model.name, label).observe(
                outcome.seconds, exemplar=tracing.exemplar()
            )
            self._metrics.release_empty.labels(model.name, label).inc(outcome.empty)
        return outcome

    def _count(self, model: ConfiguredModel, label: str, code: grpc.StatusCode) -> None:
        self._metrics.release_requests.labels(model.name, label, code.name).inc()

    def _note(
        self,
        model: ConfiguredModel,
        servable: Servable,
        seconds: float | None,
        *,
        is_error: bool = False,
        empty: float = 0.0,
    ) -> None:
        """Records a sample of a routed request during a trial."""
        label = model.label_of(servable.version)
        if model.canary is not None and label:
            sample = Sample(self._clock(), seconds, is_error=is_error, empty=empty)
            self._windows(model)[label].add(sample)

    def _windows(self, model: ConfiguredModel) -> dict[str, Window]:
        assert model.canary is not None
        pair = (model.default_version(), model.canary)
        known, windows = self._trials.get(model.name, (None, {}))
        if known != pair:
            windows = {STABLE: Window(), CANARY: Window()}
            self._trials[model.name] = pair, windows
        return windows


def _empty_share(outputs: Outputs) -> float:
    """Returns the share of an answer's rows without an item; 0 if it is not a list of items."""
    items = outputs.get(ITEM_IDS)
    if items is None or not items.size:
        return 0.0
    # Padding is at the end, so a row without a first item has none.
    first = [row[0] for row in np.atleast_2d(items)]
    return first.count(_NO_ITEM) / len(first)
