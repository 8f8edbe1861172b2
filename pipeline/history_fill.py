"""Fills the store of histories with the events of a run; ``pipeline.fill_histories`` calls it."""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf

from components.example_gen.forgotten import Forgotten, read_forgotten
from contract.errors import UserError
from contract.features import (
    EVAL,
    ITEM_ID,
    REST,
    TEST,
    TIMESTAMP,
    TRAIN,
    USER_ID,
    USER_PREFIX,
)
from contract.histories import Event, Profile, Reported
from contract.history_store import Batch, HistoryStore
from contract.manifest import EXAMPLES
from pipeline.config import RunConfig
from pipeline.output_layout import OutputLayout
from retrieval.manifest import read_manifest
from retrieval.people import profile_value
from retrieval.versions import newest_version

# Events of the same second keep the order in which they are read: the earliest first.
_SPLITS = (TRAIN, REST, EVAL, TEST)
_SEQUENCES_AT_ONCE = 1000


class FillError(UserError):
    """Examples that are not there."""


@dataclasses.dataclass
class Filled:
    """What a fill did.

    Attributes:
      examples: Directory of the examples.
      sequences: Rows that were read; a person may have several.
      left_out: Rows of people on the list of those who are not read.
      new_events: Events that the store had not, and has now.
    """

    examples: str
    sequences: int = 0
    left_out: int = 0
    new_events: int = 0


def examples_of_pushed(config: RunConfig) -> str:
    """Returns the directory of the examples of the run that pushed the version in service.

    Raises:
      FillError: no version says where they are.
    """
    layout = OutputLayout(Path(config.output_dir), config.name)
    destination = config.push.destination or str(layout.serving_models)
    version = newest_version(destination)
    facts = read_manifest(f"{destination}/{version}") if version else None
    split = (facts or {}).get(EXAMPLES)
    if not split:
        what = (
            f"version {version} in {destination} names none"
            if version
            else (f"there is no version in {destination}")
        )
        raise FillError(
            f"The examples to fill with are those of the pushed version, and {what}. Run the"
            " pipeline, or name the directory of an example-gen output with --examples"
        )
    return str(split).rstrip("/").rpartition("/")[0]


def who_is_left_out(config: RunConfig) -> Forgotten:
    """Returns the list of people who are not read. Raises DataError if it cannot be read."""
    layout = OutputLayout(Path(config.output_dir), config.name)
    if config.data.forgotten or not layout.forgotten.exists():
        return read_forgotten(config.data.forgotten)
    return read_forgotten(str(layout.forgotten))


def fill(store: HistoryStore, examples: str, left_out: Forgotten) -> Filled:
    """Puts the events and profiles of all splits into a store.

    Events that the store has stay, and are not doubled; so this may be done any number of times.

    Args:
      store: Of the model.
      examples: Directory of an example-gen output, which has a directory for each split.
      left_out: Whom to leave out.

    Raises:
      FillError: there are no examples.
      HistoryStoreError: the store cannot be written; what was written before is kept.
    """
    files = [
        str(file)
        for split in _SPLITS
        for file in sorted(tf.io.gfile.glob(f"{examples}/Split-{split}/*.gz"))
    ]
    if not files:
        raise FillError(
            f"There are no examples ({examples}/Split-{TRAIN}/*.gz). They may have been removed"
            " with an old run: run the pipeline, or name the directory of an example-gen output"
            " with --examples"
        )
    filled = Filled(examples)
    sequences = _read(files)
    while some := list(itertools.islice(sequences, _SEQUENCES_AT_ONCE)):
        filled.sequences += len(some)
        reports: dict[str, Reported] = {}
        for user_id, events, profile in some:
            if left_out.hash(user_id) in left_out.users:
                filled.left_out += 1
                continue
            report = reports.setdefault(user_id, Reported())
            report.events.extend(events)
            if profile.features and profile.time >= report.profile.time:
                report.profile = profile
        (outcome,) = store.add([Batch(reports)])
        filled.new_events += outcome.events
    return filled


def _read(files: Iterable[str]) -> Iterator[tuple[str, list[Event], Profile]]:
    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
    # Of an event of the future, nobody could ever say that it has expired.
    now = int(time.time())
    for record in records.as_numpy_iterator():
        example = tf.train.Example.FromString(record)
        features = example.features.feature
        items = [item.decode() for item in features[ITEM_ID].bytes_list.value]
        times = list(features[TIMESTAMP].int64_list.value)
        names = [name for name in features if name.startswith(USER_PREFIX) and name != USER_ID]
        values = {
            name.removeprefix(USER_PREFIX): profile_value(example, name).decode()
            for name in sorted(names)
        }
        known = {name: value for name, value in values.items() if value}
        yield (
            features[USER_ID].bytes_list.value[0].decode(),
            [Event(t, i) for t, i in zip(times, items, strict=True) if 0 < t <= now],
            Profile(min(max(times, default=0), now), known),
        )
