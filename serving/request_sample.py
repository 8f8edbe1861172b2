"""A sampled request: how it is stored in a file, and how it is sent again.

This is not the request log (``request_log``), which records the outcome of every request and none
of its values. Samples contain the values of a few requests, so that the same requests can be sent
to another version. ``request_sampler`` writes them.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from contract.features import HISTORY, HISTORY_TIME, USER_PREFIX
from contract.signatures import (
    DIVERSITY,
    EXCLUDE_HISTORY,
    PADDED_INPUTS,
    PADDING,
    UNKNOWN_TIME,
    K,
    is_bound,
    is_value_list,
)
from serving.signature import Signature
from serving.worker_board import worker_folders

_FILE_PREFIX = "request-sample-"
_FILE_SUFFIX = ".jsonl"
_DIGITS = 8

_SINGLE_VALUES = (K, EXCLUDE_HISTORY, DIVERSITY)
# Ids are bytes that may not be UTF-8; this error handler preserves them exactly.
_ERRORS = "surrogateescape"


class SampleError(Exception):
    """Samples cannot be used."""


@dataclasses.dataclass(frozen=True)
class RequestSample:
    """One row of a request.

    Attributes:
      time: When it was answered, in UTC to the second: ``2026-11-26T15:16:28Z``.
      model: The model's name.
      version: The version that answered.
      caller: Keyed hash of the caller's key, hexadecimal; empty if the request had none.
      inputs: The inputs of the row by name, as lists without the padding at their end, texts and
        numbers. Inputs that have no effect are left out, but the history never is.
    """

    time: str
    model: str
    version: int
    caller: str
    inputs: dict[str, Any]

    def to_line(self) -> bytes:
        """Returns a line of JSON, including the line break."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "RequestSample":
        """Reads what ``to_line`` returned.

        Raises:
          ValueError: ``line`` is something else, such as a part of a line.
        """
        try:
            sample = cls(**json.loads(line))
        except TypeError as e:
            raise ValueError(f"expected a sampled request, got {line[:100]!r} ({e})") from e
        if not isinstance(sample.inputs, dict) or HISTORY not in sample.inputs:
            raise ValueError(f"expected inputs with a {HISTORY!r}, got {line[:100]!r}")
        return sample

    @property
    def history(self) -> list[str]:
        """The items of the history."""
        return [item for item in self.inputs[HISTORY] if item != PADDING]

    def model_inputs(self, signature: Signature) -> dict[str, np.ndarray]:
        """Returns a request of one row that asks a version for the same as the sample.

        Args:
          signature: The version's signature; inputs that it does not have are left out.
        """
        given = {name: value for name, value in self.inputs.items() if name in signature.inputs}
        if HISTORY_TIME in given:
            length = max(len(given[HISTORY]), len(given[HISTORY_TIME]))
            given[HISTORY] = _padded(given[HISTORY], length, PADDING)
            given[HISTORY_TIME] = _padded(given[HISTORY_TIME], length, UNKNOWN_TIME)
        return {
            name: _array(
                value if name in _SINGLE_VALUES else [value],
                signature.inputs[name].dtype.as_numpy_dtype,
            )
            for name, value in given.items()
        }


def sample_files(directory: Path) -> list[Path]:
    """Returns the sample files of a directory, oldest first."""
    return sorted(directory.glob(f"{_FILE_PREFIX}{'[0-9]' * _DIGITS}{_FILE_SUFFIX}"))


def next_file(directory: Path) -> Path:
    """Returns the path for a new file, which sorts after all others."""
    number = 1
    for last in sample_files(directory)[-1:]:
        number += int(last.name.removeprefix(_FILE_PREFIX).removesuffix(_FILE_SUFFIX))
    return directory / f"{_FILE_PREFIX}{number:0{_DIGITS}d}{_FILE_SUFFIX}"


def inputs_of_row(inputs: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    """Returns the inputs of one row of a request; see ``RequestSample``.

    Only inputs that the contract defines are kept.

    Args:
      inputs: An answered request, with a history [B, T].
      row: From 0 to B - 1.
    """
    rows = len(inputs[HISTORY])
    found: dict[str, Any] = {}
    for name, array in inputs.items():
        if name in _SINGLE_VALUES:
            value = _row_of(array.reshape(-1), row, rows)
        elif (
            name in PADDED_INPUTS
            or name.startswith(USER_PREFIX)
            or is_value_list(name)
            or is_bound(name)
        ):
            value = _row_of(array, row, rows)
        else:
            continue
        plain = _plain(value)
        if isinstance(plain, list):
            while plain and plain[-1] in (PADDING, UNKNOWN_TIME):
                plain.pop()
        # k and exclude_history have default values that another version may not share.
        if plain or name in (HISTORY, K, EXCLUDE_HISTORY):
            found[name] = plain
    return found


def read_samples(directory: Path, limit: int, model: str = "") -> tuple[list[RequestSample], int]:
    """Reads the newest samples.

    Args:
      directory: Where a server wrote them.
      limit: Most samples to read.
      model: Model whose requests to read; empty if all samples are of one model.

    Returns:
      The samples, oldest first, and the number of unreadable lines: if the server was killed, the
      last line of a file is incomplete.

    Raises:
      SampleError: there are no samples, or they are of several models.
    """
    newest: list[RequestSample] = []
    num_damaged = num_files = 0
    names: set[str] = set()
    # Each worker of a server has files of its own.
    for folder in (directory, *worker_folders(directory)):
        files = sample_files(folder)
        num_files += len(files)
        found: list[RequestSample] = []
        for sample in _newest_first(files):
            if sample is None:
                num_damaged += 1
                continue
            names.add(sample.model)
            if model in ("", sample.model):
                found.append(sample)
            if len(found) == limit:
                break
        newest += found[::-1]
    newest = sorted(newest, key=lambda sample: sample.time)[-limit:]
    if not newest:
        raise SampleError(
            f"There is no sampled request{f' of the model {model}' if model else ''} in the "
            f"{num_files} files {directory}/{_FILE_PREFIX}*{_FILE_SUFFIX}"
            f"{f'; there are samples of {sorted(names)}' if names else ''}. A server writes them "
            "with --request_log_sample and --request_log_dir"
        )
    if not model and len(names) > 1:
        raise SampleError(
            f"The samples in {directory} are of several models: {', '.join(sorted(names))}. "
            "Choose one with --model"
        )
    return newest, num_damaged


def _newest_first(files: list[Path]) -> Iterator[RequestSample | None]:
    """Yields the samples of ``files``; None for a line that is not a sample."""
    for file in reversed(files):
        for line in reversed(file.read_bytes().splitlines()):
            try:
                yield RequestSample.from_line(line)
            except ValueError:
                yield None


def _row_of(array: np.ndarray, row: int, rows: int) -> Any:
    """Returns a row; the first one if the input has another number of rows: one for all."""
    if len(array) == rows:
        return array[row]
    return array[0] if len(array) else array


def _plain(value: Any) -> Any:
    """Converts bytes and NumPy types to JSON types."""
    if isinstance(value, np.ndarray):
        return [_plain(element) for element in value.tolist()]
    if isinstance(value, bytes):
        return value.decode(errors=_ERRORS)
    return value.item() if isinstance(value, np.generic) else value


def _array(value: Any, dtype: Any) -> np.ndarray:
    return np.asarray(_encoded(value) if np.dtype(dtype) == object else value, dtype)


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(element) for element in value]
    return value.encode(errors=_ERRORS)


def _padded(values: list[Any], length: int, padding: Any) -> list[Any]:
    return [*values, *[padding] * (length - len(values))]
