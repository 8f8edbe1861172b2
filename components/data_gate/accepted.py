"""Stores measures and TFX statistics of the data that the gate accepted last."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.dsl.io import fileio

_MEASURES = "measures.json"  # written last, so an entry without it is incomplete
_STATISTICS = "{}.pb"


@dataclass(frozen=True)
class Accepted:
    """What is stored about accepted data.

    Attributes:
      measures: The result of ``rails.log_measures``.
      statistics: TFX's statistics by split.
    """

    measures: Mapping[str, Any]
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]


def newest(folder: str) -> Accepted | None:
    """Returns the data that was accepted last; None if there is none."""
    entries = _entries(folder)
    if not entries:
        return None
    with fileio.open(os.path.join(entries[-1], _MEASURES)) as file:
        facts = json.loads(file.read())
    return Accepted(
        facts["measures"],
        {
            split: tfdv.load_stats_binary(os.path.join(entries[-1], _STATISTICS.format(split)))
            for split in facts["splits"]
        },
    )


def remember(folder: str, data: Accepted) -> None:
    """Stores accepted data and removes older entries."""
    entry = os.path.join(folder, f"{time.time_ns():020d}")
    fileio.makedirs(entry)
    for split, statistics in data.statistics.items():
        with fileio.open(os.path.join(entry, _STATISTICS.format(split)), "wb") as file:
            file.write(statistics.SerializeToString(deterministic=True))
    facts = {"measures": dict(data.measures), "splits": sorted(data.statistics)}
    with fileio.open(os.path.join(entry, _MEASURES), "w") as file:
        file.write(json.dumps(facts))
    for old in _entries(folder)[:-1]:
        fileio.rmtree(old)


def _entries(folder: str) -> list[str]:
    """Returns the complete entries, the oldest first."""
    if not fileio.exists(folder):
        return []
    names = sorted(str(name).rstrip("/") for name in fileio.listdir(folder))
    entries = [os.path.join(folder, name) for name in names]
    return [entry for entry in entries if fileio.exists(os.path.join(entry, _MEASURES))]
