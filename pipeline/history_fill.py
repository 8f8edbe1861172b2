"""Fills the history store with the events of a run; called by ``pipeline.fill_histories``."""

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

# Events of the same second keep the order in which they are read, so the earliest split comes
# first.
_SPLITS = (TRAIN, REST, EVAL, TEST)
_SEQUENCES_AT_ONCE = 1000


class FillError(UserError):
    """The examples to fill with do not exist."""


@dataclasses.dataclass
class Filled:
    """The result of a fill.

    Attributes:
      examples: Directory of the examples.
      sequences: Number of rows read; a person may have several.
      left_out: Number of rows of people on the list of people who must not be read.
      new_events: Number of events that the store did not have before.
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
            f"version {version} in {destination} does not name them"
            if version
            else (f"there is no version in {destination}")
        )
        raise FillError(
            f"The store is filled with the examples of the pushed version, but {what}. Run the"
            " pipeline, or name the directory of an example-gen output with --examples"
        )
    return str(split).rstrip("/").rpartition("/")[0]


def who_is_left_out(config: RunConfig) -> Forgotten:
    """Returns the list of people who must not be read. Raises DataError if it cannot be read."""
    layout = OutputLayout(Path(config.output_dir), config.name)
    if config.data.forgotten or not layout.forgotten.exists():
        return read_forgotten(config.data.forgotten)
    return read_forgotten(str(layout.forgotten))


def fill(store: HistoryStore, examples: str, left_out: Forgotten) -> Filled:
    """Adds the events and profiles of all splits to a store.

    Events that the store already has are kept and not duplicated, so this can be repeated at will.

    Args:
      store: The store of the model.
      examples: Directory of an example-gen output, with one directory per split.
      left_out: People to leave out.

    Raises:
      FillError: there are no examples.
      HistoryStoreError: the store cannot be written; events written before are kept.
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
    # An event in the future could never be recognised as expired.
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
