"""Decides which requests may run together, merges their inputs, and splits large requests.

Requests are merged only if each gets the same result as on its own. They must have the same
version, signature and outputs, equal values of the inputs that have no batch dimension (``k``), and
equal shapes beyond the first dimension. The configuration names the inputs that may differ in
length because they can be padded (``history``), and those among them that must share one shape
(``history_time``). Requests that the model would refuse on their own are not merged.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from contract.signatures import is_value_list
from serving.config import BatchingConfig
from serving.servable import Servable
from serving.signature import Signature

Arrays = Mapping[str, np.ndarray]


class Merging:
    """Merges and splits the inputs of requests.

    Args:
      config: Which signatures and inputs may be merged, and how large a run may be.
    """

    def __init__(self, config: BatchingConfig):
        self._config = config

    def key(
        self,
        servable: Servable,
        signature_name: str,
        inputs: Arrays,
        output_names: tuple[str, ...],
    ) -> tuple[object, int]:
        """Returns what requests must have in common to be merged, and the rows of this request.

        Args:
          servable: The version to run.
          signature_name: Its signature.
          inputs: All inputs, checked and completed.
          output_names: The requested outputs.

        Returns:
          A key, equal for requests that may be merged, and the number of rows; 0 if the request
          must run alone and in one piece.
        """
        alone = object(), 0
        if not self._config.enabled or signature_name not in self._config.signatures:
            return alone
        signature = servable.model.signatures[signature_name]
        if not all(signature.outputs[name].is_batched for name in output_names):
            return alone
        # If the shapes differ from the signature, the effect in the graph is unknown.
        if signature.shape_problem(inputs):
            return alone
        rows = 0
        parts: list[object] = [id(servable), signature_name, output_names]
        # These have no batch dimension in the signature, but nevertheless one value per row.
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
            may_be_padded = name in self._config.padded_inputs or is_value_list(name)
            padded = may_be_padded and value.ndim == 2
            # For aligned inputs, the first one's shape represents all.
            is_given = name in aligned[1:]
            parts.append(name if is_given else (name, value.ndim if padded else value.shape[1:]))
        if not rows or any(size != rows for size in by_row):
            return alone
        return tuple(parts), rows

    def cut(self, signature: Signature, inputs: Arrays, rows: int) -> list[tuple[Arrays, int]]:
        """Splits a request into parts of at most ``max_batch_size`` rows, if that is allowed.

        Args:
          signature: The signature to run.
          inputs: All inputs.
          rows: Number of rows, as returned by ``key``.

        Returns:
          The inputs and the rows of each part.
        """
        size = self._config.max_batch_size
        # With one value per row, all rows get answers as long as the longest of the request.
        is_by_row = any(
            slot.shape is None and inputs[name].size > 1 for name, slot in signature.inputs.items()
        )
        if rows <= size or is_by_row:
            return [(inputs, rows)]
        aligned = self._aligned_inputs(signature)
        whole = {
            name
            for name, slot in signature.inputs.items()
            if not slot.is_batched
            or _is_default(signature, name, inputs[name])
            # Padding of any shape applies to all rows.
            or (name in aligned[1:] and _is_padding(inputs[name]))
        }
        return [
            (
                {
                    name: value if name in whole else value[start : start + size]
                    for name, value in inputs.items()
                },
                min(size, rows - start),
            )
            for start in range(0, rows, size)
        ]

    def merge(self, signature: Signature, batch: Sequence[Arrays]) -> dict[str, np.ndarray]:
        """Concatenates the batched inputs of requests with one key; other inputs are equal in all.

        Args:
          signature: The signature to run.
          batch: The inputs of each request.
        """
        aligned = self._aligned_inputs(signature)
        merged = {}
        for name, slot in signature.inputs.items():
            values = [inputs[name] for inputs in batch]
            if name in aligned[1:]:
                # Padding alone may have any shape, but only in a request that runs on its own.
                shapes = [inputs[aligned[0]].shape for inputs in batch]
                values = [
                    np.full(shape, _padding_of(value), value.dtype) if _is_padding(value) else value
                    for value, shape in zip(values, shapes, strict=True)
                ]
            # An input of any rank that is equal in all requests: one value per row, or one for all
            # rows.
            is_by_row = slot.shape is None and values[0].size > 1
            if not (slot.is_batched or is_by_row) or _is_default(signature, name, values[0]):
                merged[name] = values[0]
                continue
            if values[0].ndim == 2:
                width = max(value.shape[1] for value in values)
                values = [_pad(value, width) for value in values]
            merged[name] = np.concatenate(values)
        return merged

    def _aligned_inputs(self, signature: Signature) -> Sequence[str]:
        """Returns the inputs that must share one shape; none if ``signature`` lacks the first."""
        names = [
            name
            for name in self._config.aligned_inputs
            if name in self._config.padded_inputs and name in signature.inputs
        ]
        return names if names[:1] == [*self._config.aligned_inputs[:1]] else ()


def _pad(value: np.ndarray, width: int) -> np.ndarray:
    """Pads rows to ``width`` with empty strings or zeros."""
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
