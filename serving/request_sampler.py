"""Writes a sample of the answered requests to files, without callers' keys.

No request waits for a disk: samples wait in a short queue for the thread that writes them, and a
sample that finds the queue full is dropped and counted.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import hmac
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from contract.features import HISTORY
from serving.metrics import Metrics
from serving.request_sample import RequestSample, inputs_of_row, next_file, sample_files

_log = logging.getLogger(__name__)

KEY_FILE = "caller-hash.key"
# The outcomes of a sample: the values of the metric's label.
WRITTEN = "written"
QUEUE_FULL = "queue_full"
TOO_LARGE = "too_large"
FAILED = "failed"

_MAX_QUEUED = 256
# Largest size of a row with its padding; checked first, because that takes no time.
_MAX_ELEMENTS = 10_000
# Together with the length of the queue, this bounds the memory. A line of this size fits into a
# file at the smallest request_log_max_bytes.
_MAX_LINE_BYTES = 2**16
# The oldest file is removed as a whole.
_NUM_FILES = 10
_DAY_LENGTH = len("2026-11-26")
_KEY_BYTES = 32
_OWNER_ONLY = 0o600
_CLOSING_SECONDS = 5.0


class RequestSampler:
    """Takes a share of the rows of requests and writes them to a directory.

    Args:
      directory: Directory of the files; created if it does not exist. Only one server may use it.
      share: Share of the rows, from 0 to 1.
      max_bytes: Largest size of all sample files together.
      metrics: Counts the outcomes of the samples.
      key_directory: Directory of the key by which callers are hashed; the same as ``directory`` by
        default. The workers of one server share it, so that they compute the same hash for a
        caller.
      clock: Returns the time in seconds since 1970.
      draw: Returns the given number of random numbers from 0 to 1.
    """

    def __init__(
        self,
        directory: Path,
        share: float,
        max_bytes: int,
        metrics: Metrics,
        key_directory: Path | None = None,
        clock: Callable[[], float] = time.time,
        draw: Callable[[int], np.ndarray] | None = None,
    ):
        self._directory = directory
        self._share = share
        self._metrics = metrics
        self._clock = clock
        self._draw = draw or np.random.default_rng().random
        self._files = _SampleFiles(directory, max_bytes)
        self._callers = _CallerHashes(key_directory or directory)
        self._queue: queue.Queue[tuple[RequestSample, str] | None] = queue.Queue(_MAX_QUEUED)
        self._thread = threading.Thread(target=self._write_all, name="request-sampler", daemon=True)
        self._lock: int | None = None
        self._is_failing = False

    def start(self) -> None:
        """Starts writing.

        Raises:
          OSError: the directory is not writable, or another server writes to it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self._directory, os.W_OK):
            raise PermissionError(f"request_log_dir: {self._directory} cannot be written to")
        self._lock = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._lock)
            self._lock = None
            raise OSError(
                f"request_log_dir: another server writes to {self._directory}; give each server "
                f"a directory of its own ({e})"
            ) from e
        self._thread.start()

    def offer(
        self, model: str, version: int, inputs: Mapping[str, np.ndarray], caller_key: str
    ) -> None:
        """Samples a share of the rows of a request; neither blocks nor fails.

        Args:
          model: The model's name.
          version: The version that answered.
          inputs: All inputs, checked and completed, with a history [B, T].
          caller_key: The caller's key; empty if there is none.
        """
        try:
            for row in np.flatnonzero(self._draw(len(inputs[HISTORY])) < self._share):
                self._offer_row(model, version, inputs, int(row), caller_key)
        except Exception as e:
            # A failing sample must not make the request fail.
            self._fail(model, e)

    def close(self) -> None:
        """Writes the waiting samples, for a few seconds at most."""
        if self._lock is None:
            return
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSING_SECONDS)
        self._thread.join(_CLOSING_SECONDS)
        os.close(self._lock)
        self._lock = None

    def _offer_row(
        self,
        model: str,
        version: int,
        inputs: Mapping[str, np.ndarray],
        row: int,
        caller_key: str,
    ) -> None:
        if sum(value[:1].size for value in inputs.values() if value.ndim) > _MAX_ELEMENTS:
            self._count(model, TOO_LARGE)
            return
        at = datetime.datetime.fromtimestamp(int(self._clock()), datetime.timezone.utc)
        sample = RequestSample(
            time=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            model=model,
            version=version,
            caller="",
            inputs=inputs_of_row(inputs, row),
        )
        if len(sample.to_line()) > _MAX_LINE_BYTES:
            self._count(model, TOO_LARGE)
            return
        try:
            self._queue.put_nowait((sample, caller_key))
        except queue.Full:
            self._count(model, QUEUE_FULL)

    def _write_all(self) -> None:
        while (entry := self._queue.get()) is not None:
            sample, caller_key = entry
            try:
                self._write(sample, caller_key)
                self._is_failing = False
                self._count(sample.model, WRITTEN)
            except Exception as e:
                self._fail(sample.model, e)
        self._files.close()

    def _fail(self, model: str, error: Exception) -> None:
        self._count(model, FAILED)
        if not self._is_failing:
            # Other messages may contain values of the request.
            shown = str(error) if isinstance(error, OSError) else type(error).__name__
            _log.error("request sample not written", extra={"error": shown})
        self._is_failing = True

    def _write(self, sample: RequestSample, caller_key: str) -> None:
        if caller_key:
            caller = self._callers.hash(caller_key, sample.time[:_DAY_LENGTH])
            sample = dataclasses.replace(sample, caller=caller)
        self._files.write(sample.to_line())

    def _count(self, model: str, outcome: str) -> None:
        self._metrics.request_samples.labels(model, outcome).inc()


class _CallerHashes:
    """Hashes callers' keys with a random key that changes every day and only the owner can read.

    Each day's key is overwritten by that of the next day. After that, nobody can tell which caller
    a hash belongs to, or that two hashes of different days belong to one caller.
    """

    def __init__(self, directory: Path):
        self._path = directory / KEY_FILE
        self._day = ""
        self._key = b""

    def hash(self, caller_key: str, day: str) -> str:
        """Returns the HMAC-SHA256 as hexadecimal digits.

        Args:
          caller_key: The key in the request.
          day: Day of the request, in ISO 8601.
        """
        if day != self._day:
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._key = self._stored(day) or self._renewed(day)
            self._day = day
        return hmac.digest(
            self._key, caller_key.encode(errors="surrogateescape"), hashlib.sha256
        ).hex()

    def _stored(self, day: str) -> bytes:
        """Returns the key of ``day`` from before a restart; empty if there is none."""
        try:
            stored_day, key = self._path.read_text().split()
            return bytes.fromhex(key) if stored_day == day else b""
        except (OSError, ValueError):
            return b""

    def _renewed(self, day: str) -> bytes:
        key = secrets.token_bytes(_KEY_BYTES)
        staging = self._path.with_suffix(".new")
        staging.unlink(missing_ok=True)
        file = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        try:
            os.write(file, f"{day} {key.hex()}\n".encode())
        finally:
            os.close(file)
        os.replace(staging, self._path)
        return key


class _SampleFiles:
    """Numbered files of lines, which only the owner can read; the oldest files are removed."""

    def __init__(self, directory: Path, max_bytes: int):
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_file_bytes = max_bytes // _NUM_FILES
        self._file: int | None = None

    def write(self, line: bytes) -> None:
        """Writes a line.

        Raises:
          OSError: the line cannot be written. The next line then begins a new file, because this
            file may end in an incomplete line.
        """
        file = self._file_for(len(line))
        try:
            written = os.write(file, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes were written; is the disk full?")
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _file_for(self, num_bytes: int) -> int:
        if self._file is not None:
            facts = os.fstat(self._file)
            # The link count is 0 if somebody has deleted the file.
            if facts.st_nlink and facts.st_size + num_bytes <= self._max_file_bytes:
                return self._file
            self.close()
        paths = sample_files(self._directory)
        sizes = [path.stat().st_size for path in paths]
        while sum(sizes) + self._max_file_bytes > self._max_bytes:
            paths.pop(0).unlink(missing_ok=True)
            sizes.pop(0)
        self._file = os.open(
            next_file(self._directory), os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY
        )
        return self._file
