"""Limits on what one request may ask for, checked before memory or time is spent on it."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from contract.signatures import K
from serving.config import ServerConfig
from serving.errors import invalid_argument, quoted
from serving.signature import Signature

# This many items in the answer cost about as much as one more row.
_ITEMS_PER_ROW = 100


@dataclasses.dataclass(frozen=True)
class Work:
    """Amount of work that a request asks of a model.

    Attributes:
      rows: Number of rows.
      answer_items: Rows times the largest ``k``; every row of the answer is as long as the longest
        one.
    """

    rows: int = 1
    answer_items: int = 0

    @classmethod
    def of(cls, signature: Signature, inputs: Mapping[str, np.ndarray]) -> "Work":
        """Computes the work of a request.

        Args:
          signature: The signature to run.
          inputs: All its inputs, decoded.
        """
        rows = max(
            (
                len(inputs[name])
                for name, slot in signature.inputs.items()
                if slot.is_batched and inputs[name].ndim
            ),
            default=1,
        )
        k = inputs.get(K)
        if k is None or not k.size or k.dtype.kind not in "iu":
            return cls(rows)
        return cls(rows, rows * int(k.max() if k.ndim else k))

    @property
    def cost(self) -> int:
        """Cost by which requests share the model, in rows with a short answer."""
        return max(1, self.rows) + max(0, self.answer_items) // _ITEMS_PER_ROW


@dataclasses.dataclass(frozen=True)
class Limits:
    """Largest sizes of a request; the transports limit its size in bytes.

    Requests beyond a limit get INVALID_ARGUMENT, as TF Serving answers requests with more rows than
    its largest batch (``ValidateBatchTaskQueueCapacity`` in TensorFlow's
    core/kernels/batching_util/shared_batch_scheduler.h).

    Attributes:
      rows: Most rows of one request.
      answer_items: Most rows times the largest ``k``.
      elements: Most elements of all inputs together, by their shapes.
      rank: Most dimensions of one input.
    """

    rows: int
    answer_items: int
    elements: int
    rank: int

    @classmethod
    def from_config(cls, config: ServerConfig) -> "Limits":
        """Creates the limits that the command line sets."""
        return cls(
            rows=config.max_request_rows,
            answer_items=config.max_answer_items,
            elements=config.max_request_elements,
            rank=config.max_input_rank,
        )

    def check_shapes(self, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Refuses inputs by their shapes alone, before they are decoded.

        Args:
          shapes: Name and shape of each input.

        Raises:
          ServingError: INVALID_ARGUMENT.
        """
        elements = 0
        for name, shape in shapes:
            if len(shape) > self.rank:
                raise invalid_argument(
                    f"Input {quoted(name)} has {len(shape)} dimensions; the limit is {self.rank}"
                    " (max_input_rank)"
                )
            elements += math.prod(shape)
            if elements > self.elements:
                raise invalid_argument(
                    f"Input {quoted(name)} of shape {list(shape)} brings the request to {elements}"
                    f" elements; the limit is {self.elements} (max_request_elements)"
                )

    def check_rows(self, rows: int) -> None:
        """Refuses a request with too many rows. Raises ServingError, INVALID_ARGUMENT."""
        if rows > self.rows:
            raise invalid_argument(
                f"The request has {rows} rows; the limit is {self.rows} (max_request_rows)."
                " Send them in several requests"
            )

    def check_work(self, work: Work) -> None:
        """Refuses a decoded request that asks for too many rows, or too long an answer.

        Args:
          work: The work that it asks for.

        Raises:
          ServingError: INVALID_ARGUMENT.
        """
        self.check_rows(work.rows)
        if work.answer_items > self.answer_items:
            raise invalid_argument(
                f"{work.rows} rows of {work.answer_items // work.rows} items each are"
                f" {work.answer_items} items; the limit is {self.answer_items}"
                " (max_answer_items). Send fewer rows or ask for fewer items"
            )
