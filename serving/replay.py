"""Sends the same requests to two versions and compares their answers."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from contract.signatures import ITEM_IDS, ITEM_TITLES, ITEMS, PADDING, SERVE, TITLES
from serving.errors import ServingError
from serving.integrity import verify_manifest
from serving.request_sample import RequestSample
from serving.saved_model import SavedModel

_QUANTILES = {"p10": 10, "p50": 50, "p90": 90}


class Answering(Protocol):
    """A version that can answer requests."""

    def answer(self, sample: RequestSample) -> list[str]:
        """Returns the ids of items, best first; may raise ``ServingError``."""


class LoadedVersion:
    """A version directory, loaded as the server loads it.

    Args:
      path: The directory.

    Attributes:
      path: The directory.
      model: The loaded model.
      signature: The signature ``serving_default``.

    Raises:
      ServingError: the version cannot be loaded, its files differ from its manifest, or it has no
        such signature.
    """

    def __init__(self, path: Path):
        verify_manifest(path)
        self.path = path
        self.model = SavedModel(path)
        self.model.warm_up(path)
        self.model.output_names(SERVE, [ITEM_IDS])
        self.signature = self.model.signatures[SERVE]

    def answer(self, sample: RequestSample) -> list[str]:
        """Returns the ids of items, best first.

        Raises:
          ServingError: the model refuses the request.
        """
        inputs = self.model.complete_inputs(SERVE, sample.model_inputs(self.signature))
        found = self.model.run(SERVE, inputs, (ITEM_IDS,))[ITEM_IDS][0]
        return [_text(item) for item in found if item != PADDING.encode()]

    def titles(self, items: Sequence[str]) -> list[str]:
        """Returns the title of each item, or its id if the version has no title for it."""
        if ITEM_TITLES not in self.model.signatures or not items:
            return [*items]
        ids = np.array([item.encode(errors="surrogateescape") for item in items], object)
        titles = self.model.run(ITEM_TITLES, {ITEMS: ids}, (TITLES,))[TITLES]
        return [_text(title) or item for title, item in zip(titles, items, strict=True)]

    def close(self) -> None:
        """Frees the model."""
        self.model.close()


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer of a version to a request.

    Attributes:
      items: Ids, best first; empty if the request failed.
      seconds: Time taken.
      error: Why the request failed; empty if it did not.
    """

    items: list[str]
    seconds: float
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A request and the answers of both versions."""

    sample: RequestSample
    served: Answer
    candidate: Answer

    @property
    def overlap(self) -> float | None:
        """Share of the longer answer's items that both answers have; None if both are empty."""
        served, candidate = set(self.served.items), set(self.candidate.items)
        longer = max(len(served), len(candidate))
        return len(served & candidate) / longer if longer else None


@dataclasses.dataclass(frozen=True)
class VersionFigures:
    """Figures of one version.

    Attributes:
      empty: Share of the requests that got no item, or failed.
      failed: Share of the requests that it refused.
      first_error: Why it refused the first of these; empty if it refused none.
      p50_ms: Median time of a request, in milliseconds.
      p99_ms: 99th percentile, in milliseconds.
    """

    empty: float
    failed: float
    first_error: str
    p50_ms: float
    p99_ms: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison of two versions that answered the same requests.

    Attributes:
      requests: Number of requests.
      compared: Number of requests to which at least one version answered with an item.
      overlap: Mean overlap of those; 0 if there are none.
      overlap_quantiles: Quantiles of the overlap of those, by name (``p10``, ``p50``, ``p90``).
      both_empty: Share of the requests to which neither version answered with an item.
      served: Figures of the served version.
      candidate: Figures of the candidate.
    """

    requests: int
    compared: int
    overlap: float
    overlap_quantiles: dict[str, float]
    both_empty: float
    served: VersionFigures
    candidate: VersionFigures


def replay(
    samples: Sequence[RequestSample],
    served: Answering,
    candidate: Answering,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Pair]:
    """Sends every request to both versions, one after the other.

    The versions take turns in going first, so that neither benefits from what the other leaves in
    the processor's caches.

    Args:
      samples: At least one; the first is sent once more beforehand, as a warm-up.
      served: The served version.
      candidate: The candidate.
      clock: Returns the current time in seconds.
    """
    for version in (served, candidate):
        _ask(version, samples[0], clock)
    pairs = []
    for number, sample in enumerate(samples):
        if number % 2:
            new = _ask(candidate, sample, clock)
            old = _ask(served, sample, clock)
        else:
            old = _ask(served, sample, clock)
            new = _ask(candidate, sample, clock)
        pairs.append(Pair(sample, old, new))
    return pairs


def compare(pairs: Sequence[Pair]) -> Comparison:
    """Summarises what ``replay`` returned; ``pairs`` must not be empty."""
    overlaps = [pair.overlap for pair in pairs if pair.overlap is not None]
    return Comparison(
        requests=len(pairs),
        compared=len(overlaps),
        overlap=float(np.mean(overlaps or [0.0])),
        overlap_quantiles={
            name: float(np.percentile(overlaps or [0.0], percent))
            for name, percent in _QUANTILES.items()
        },
        both_empty=1.0 - len(overlaps) / len(pairs),
        served=_figures([pair.served for pair in pairs]),
        candidate=_figures([pair.candidate for pair in pairs]),
    )


def least_alike(pairs: Sequence[Pair], number: int) -> list[Pair]:
    """Returns the pairs with the smallest overlap, the smallest first."""
    comparable = [pair for pair in pairs if pair.overlap is not None]
    return sorted(comparable, key=lambda pair: pair.overlap or 0.0)[:number]


def _figures(answers: Sequence[Answer]) -> VersionFigures:
    errors = [answer.error for answer in answers if answer.error]
    milliseconds = [1000 * answer.seconds for answer in answers]
    return VersionFigures(
        empty=float(np.mean([not answer.items for answer in answers])),
        failed=len(errors) / len(answers),
        first_error=errors[0] if errors else "",
        p50_ms=float(np.percentile(milliseconds, 50)),
        p99_ms=float(np.percentile(milliseconds, 99)),
    )


def _ask(version: Answering, sample: RequestSample, clock: Callable[[], float]) -> Answer:
    started = clock()
    try:
        items = version.answer(sample)
    except ServingError as e:
        return Answer([], clock() - started, e.message)
    return Answer(items, clock() - started)


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")
