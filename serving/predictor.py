"""Runs predict requests: the part that REST and gRPC share."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from contract.features import HISTORY
from contract.signatures import INTEREST_INDEX, NO_INTEREST, NUM_KNOWN, PADDING, SERVE
from serving import tracing
from serving.admission import Call
from serving.batching import Runner
from serving.histories import Histories
from serving.limits import Limits, Work
from serving.metrics import Metrics
from serving.request_sampler import RequestSampler
from serving.servable import Servable

_PADDING = PADDING.encode()


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Checks, runs and measures predict requests.

    Attributes:
      runner: Threads that run models.
      metrics: Records the latency, and the share of known items in the histories.
      limits: Largest sizes of a request.
      histories: Looks up people whom requests identify by id.
      sampler: Writes some of the requests to files; None if that is disabled.
    """

    runner: Runner
    metrics: Metrics
    limits: Limits
    histories: Histories
    sampler: RequestSampler | None = None

    async def predict(
        self,
        servable: Servable,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_filter: Sequence[str],
        timeout_seconds: float,
        call: Call,
    ) -> dict[str, np.ndarray]:
        """Runs a signature on ``servable``, which the caller holds.

        Args:
          servable: The version to run.
          signature_name: Empty means ``serving_default``.
          inputs: Arrays by input name; those with a default may be missing.
          output_filter: Outputs to return; all if empty.
          timeout_seconds: Time left for the request.
          call: The admitted request.

        Raises:
          ServingError: see ``SavedModel``, ``Limits``, ``Call`` and ``Runner``.
        """
        signature_name = signature_name or SERVE
        started = time.monotonic()
        inputs = await self.histories.resolved(servable, signature_name, inputs)
        complete = servable.model.complete_inputs(signature_name, inputs)
        output_names = servable.model.output_names(signature_name, output_filter)
        work = Work.of(servable.model.signatures[signature_name], complete)
        self.limits.check_work(work)
        call.decoded(inputs)
        outputs = await self.runner.run(
            servable,
            signature_name,
            complete,
            output_names,
            timeout_seconds - (time.monotonic() - started),
            work=work,
            flow=call.flow,
            num_bytes=call.num_bytes,
        )
        self.metrics.latency.labels(servable.name, signature_name).observe(
            time.monotonic() - started, exemplar=tracing.exemplar()
        )
        if (
            signature_name == SERVE
            and HISTORY in complete
            and not servable.model.signatures[signature_name].shape_problem(complete)
        ):
            self._observe_histories(servable.name, complete[HISTORY], outputs)
            if self.sampler is not None:
                self.sampler.offer(servable.name, servable.version, complete, call.caller_key)
        return outputs

    def _observe_histories(
        self, model: str, history: np.ndarray, outputs: Mapping[str, np.ndarray]
    ) -> None:
        self.metrics.histories.labels(model).inc(len(history))
        items = history.size - history.ravel().tolist().count(_PADDING)
        self.metrics.history_items.labels(model).inc(int(items))
        if NUM_KNOWN in outputs:
            known = outputs[NUM_KNOWN]
            self.metrics.unknown_history_items.labels(model).inc(int(items - known.sum()))
            self.metrics.empty_histories.labels(model).inc(int(np.count_nonzero(known == 0)))
        elif INTEREST_INDEX in outputs and outputs[INTEREST_INDEX].shape[-1]:
            first = outputs[INTEREST_INDEX][..., 0]
            self.metrics.empty_histories.labels(model).inc(
                int(np.count_nonzero(first == NO_INTEREST))
            )
