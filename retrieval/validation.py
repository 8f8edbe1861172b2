"""Loads a bundle as a server does, and measures the answers that a client would get."""

import dataclasses
import json
import time
from collections.abc import Sequence

import numpy as np

from contract.signatures import ITEM_IDS, PADDING, SCORES
from retrieval.config import IndexConfig
from retrieval.manifest import missing_files, total_bytes
from retrieval.measure import affordable_people, latencies_ms, like_depths, recall
from retrieval.people import read_people
from retrieval.served_bundle import ServedBundle

_BATCH = 32
_SINGLE_REQUESTS = 200
_BATCH_REQUESTS = 20


@dataclasses.dataclass(frozen=True)
class Validation:
    """The measurements and the decision.

    Attributes:
      blessed: Whether the bundle may be pushed.
      reasons: Why the bundle may not be pushed; empty if blessed.
      recall: Mean share of the exact top ``recall_k`` that the answers contain.
      recall_k: The depth k of ``recall``. It is smaller than configured if the catalogue has
        fewer items or ``max_k`` is smaller.
      recall_people: Number of people over whom ``recall`` is averaged.
      latency_ms: Latency in milliseconds: quantiles for requests for one person (``p50``,
        ``p99``), and the median for requests for 32 people (``batch_32``).
      load_seconds: Seconds from the start of loading to the first answer.
      bytes: Total size of the bundle's files.
    """

    blessed: bool
    reasons: tuple[str, ...]
    recall: float
    recall_k: int
    recall_people: int
    latency_ms: dict[str, float]
    load_seconds: float
    bytes: int


def validate(model_dir: str, example_files: Sequence[str], config: IndexConfig) -> Validation:
    """Loads the bundle, asks it for recommendations and compares them with exact search.

    Args:
      model_dir: The directory of the bundle, as it will be pushed.
      example_files: TFRecord files (gzip) of raw examples with histories.
      config: Gives the thresholds and the number of people.

    Returns:
      The measurements and the decision.

    Raises:
      ValueError: if nobody in the validation group has a history, or no history has a known
        item.
    """
    start = time.monotonic()
    server = ServedBundle(model_dir)
    people = read_people(example_files, "validation", config.num_queries, server.person_inputs)
    smoke = server.recommend(people.repeated(1), 1)
    load_seconds = time.monotonic() - start
    reasons = [
        f"a file in the manifest is missing or has another size: {path}"
        for path in missing_files(model_dir)
    ]
    if not smoke[ITEM_IDS][0, 0]:
        reasons.append("the answer to a request with a real history contained no item")

    k = min(config.recall_k, config.max_k, server.num_retrievable)
    limit = affordable_people(len(people), server.num_retrievable, server.interests_shape)
    asked = people.repeated(limit)
    num_excluded = [len(set(history) - {PADDING.encode()}) for history in asked.history]
    found = np.full([limit, k], -np.inf, np.float32)
    for rows in like_depths(num_excluded, k, _BATCH):
        answer = server.recommend(asked.at(rows), k)
        found[rows] = np.where(answer[ITEM_IDS] != PADDING.encode(), answer[SCORES], -np.inf)
    measured = recall(found, server.exact_scores(asked, k))
    if measured.mean < config.recall_target:
        reasons.append(
            f"recall@{k} is {measured.mean:.4f}, below the target of {config.recall_target}"
        )

    singles = list(people.repeated(_SINGLE_REQUESTS).batches(1))
    batches = list(people.repeated(_BATCH_REQUESTS * _BATCH).batches(_BATCH))
    single_ms = latencies_ms(lambda i: server.recommend(singles[i], k), len(singles))
    batch_ms = latencies_ms(lambda i: server.recommend(batches[i], k), len(batches))
    latency = {
        "p50": round(float(np.percentile(single_ms, 50)), 3),
        "p99": round(float(np.percentile(single_ms, 99)), 3),
        f"batch_{_BATCH}": round(float(np.median(batch_ms)), 3),
    }
    if config.max_latency_ms and latency["p99"] > config.max_latency_ms:
        reasons.append(
            f"the p99 latency of single requests is {latency['p99']:.1f} ms, above max_latency_ms "
            f"of {config.max_latency_ms}"
        )
    return Validation(
        blessed=not reasons,
        reasons=tuple(reasons),
        recall=round(measured.mean, 5),
        recall_k=k,
        recall_people=measured.people,
        latency_ms=latency,
        load_seconds=round(load_seconds, 2),
        bytes=total_bytes(model_dir),
    )


def report(validation: Validation) -> str:
    """Returns ``validation`` as JSON."""
    return json.dumps(dataclasses.asdict(validation), indent=2)
