"""Writes a sample of the requests that are answered, without a caller's key.

No request waits for a disk: samples wait in a short queue for the thread that writes
them, and what finds it full is dropped and counted.
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
# How a sample ended: the values of the metric's label.
WRITTEN = "written"
QUEUE_FULL = "queue_full"
TOO_LARGE = "too_large"
FAILED = "failed"

_MAX_QUEUED = 256
# Of a row, with its padding: looked at first, because it takes no time.
_MAX_ELEMENTS = 10_000
# With the queue's length it bounds the memory. It fits into one file of the smallest
# request_log_max_bytes.
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
      directory: Where; made if it does not exist. One server at a time.
      share: Of the rows, from 0 to 1.
      max_bytes: Of all files of samples together, at most.
      metrics: Counts what becomes of the samples.
      key_directory: Of the key by which callers are hashed; the same as ``directory`` by default.
        The workers of one server share it, so that they give a caller the same hash.
      clock: Gives the time in seconds since 1970.
      draw: Gives so many random numbers from 0 to 1.
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
        """Begins to write.

        Raises:
          OSError: the directory cannot be written to, or another server writes there.
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
        """Keeps a share of the rows of a request; neither waits nor fails.

        Args:
          model: The model's name.
          version: The version that answered.
          inputs: All inputs, checked and completed, with a history [B, T].
          caller_key: Of whoever asks; empty if there is none.
        """
        try:
            for row in np.flatnonzero(self._draw(len(inputs[HISTORY])) < self._share):
                self._offer_row(model, version, inputs, int(row), caller_key)
        except Exception as e:
            # A sample is never worth a request.
            self._fail(model, e)

    def close(self) -> None:
        """Writes what waits, for a few seconds at most."""
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
            # Any other message may have values of the request in it.
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
    """Hashes callers' keys with a random key of the day, which only the owner can read.

    The key of a day is overwritten by the next day's: nobody can tell then who a hash
    was, or that two hashes of different days are of one caller.
    """

    def __init__(self, directory: Path):
        self._path = directory / KEY_FILE
        self._day = ""
        self._key = b""

    def hash(self, caller_key: str, day: str) -> str:
        """Returns HMAC-SHA256, hexadecimal.

        Args:
          caller_key: Of a request.
          day: Of the request, as ISO 8601 writes it.
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
        """The key of ``day``, as before a restart; empty if there is none."""
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
    """Numbered files of lines, of which the oldest go; only the owner can read them."""

    def __init__(self, directory: Path, max_bytes: int):
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_file_bytes = max_bytes // _NUM_FILES
        self._file: int | None = None

    def write(self, line: bytes) -> None:
        """Writes a line.

        Raises:
          OSError: it cannot be written. The next line begins another file, because a part
            of this one may be at the end of the file.
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
        """Ends the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _file_for(self, num_bytes: int) -> int:
        if self._file is not None:
            facts = os.fstat(self._file)
            # Its last link is gone when somebody has deleted it.
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
