"""Builds the tf.Examples of sequences and of the catalogue, column by column."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components.example_gen.config import FeatureConfig
from components.example_gen.events import Events
from components.example_gen.rows import FEATURE_PREFIX, ID, LIST_SEPARATOR, TITLE
from components.example_gen.splits import Rows
from components.example_gen.text import is_blank
from contract import features

# The lower bound of the history lengths in each bucket, and the name of the bucket.
HISTORY_LENGTH_BUCKETS = {1: "1-4", 5: "5-9", 10: "10-19", 20: "20-49", 50: "50+"}
_EXAMPLES_AT_ONCE = 4096


def sequence_examples(
    events: Events, sequences: Rows, profiles: pa.Table | None, split: str
) -> Iterator[bytes]:
    """Yields serialised tf.Examples of ``sequences``, with the features listed in ``docs/data.md``.

    Args:
      events: The events to which ``sequences`` refer.
      sequences: Sequences of one split.
      profiles: The profile rows [U] of the people in ``events`` (see ``lookup``); None if there
        are no profiles.
      split: ``features.TRAIN``, ``EVAL``, ``TEST`` or ``REST``.
    """
    for begin in range(0, len(sequences), _EXAMPLES_AT_ONCE):
        some = sequences.take(slice(begin, begin + _EXAMPLES_AT_ONCE))
        position = some.positions()
        offsets = np.concatenate([[0], np.cumsum(some.stop - some.start)])
        person = events.user[some.start]
        columns = {
            features.USER_ID: _one_each(_bytes(events.user_ids.take(pa.array(person)))),
            features.ITEM_ID: _lists(
                offsets, _bytes(events.item_ids.take(pa.array(events.item[position])))
            ),
            features.TIMESTAMP: _lists(offsets, pa.array(events.time[position])),
            features.NUM_TARGETS: _one_each(pa.array(some.num_targets)),
        }
        if split in (features.TRAIN, features.REST):
            columns[features.NUM_CONTEXT] = _one_each(pa.array(some.num_context))
        else:
            bucket = history_length_bucket(some.history_length)
            columns[features.HISTORY_LENGTH_BUCKET] = _one_each(_bytes(bucket))
        if profiles is not None:
            known = profiles.take(pa.array(person))
            columns.update(_feature_columns(known, features.profile_feature))
        yield from encode(columns)


def catalogue_examples(items: pa.Table) -> Iterator[bytes]:
    """Yields serialised tf.Examples of the items in an entity table."""
    for batch in items.to_batches(_EXAMPLES_AT_ONCE):
        some = pa.Table.from_batches([batch])
        columns = {features.ITEM_ID: _one_each(_bytes(_single(some[ID])))}
        if TITLE in some.column_names:
            columns[features.TITLE] = _single(some[TITLE])
        columns.update(_feature_columns(some, features.side_feature))
        yield from encode(columns)


def history_length_bucket(history_length: np.ndarray) -> pa.StringArray:
    """Returns the name of the bucket of each history length [R]; lengths are at least 1."""
    lower = np.array(list(HISTORY_LENGTH_BUCKETS))
    names = np.array(list(HISTORY_LENGTH_BUCKETS.values()))
    return pa.array(names[np.searchsorted(lower, history_length, side="right") - 1])


def encode(columns: Mapping[str, pa.Array]) -> list[bytes]:
    """Serialises list columns into tf.Examples; null becomes an absent feature."""
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    examples = RecordBatchToExamplesEncoder().encode(batch)
    # The order of the features differs between calls of the encoder.
    return [
        tf.train.Example.FromString(example).SerializeToString(deterministic=True)
        for example in examples
    ]


def entity_table(
    rows: pa.Table, configs: Mapping[str, FeatureConfig]
) -> tuple[pa.Table, dict[str, int], int]:
    """Turns checked rows of items or people into the values of their tf.Examples.

    Args:
      rows: Checked rows, in file order.
      configs: Features by name.

    Returns:
      - A table with one row per id, the first in the file: ``ID`` as text, ``TITLE``
        (if ``rows`` has it) and each feature as lists of bytes, or of float32 for a
        numeric feature; null if there is no value.
      - By feature, how many values of numeric features could not be parsed and were
        left out; only features with such values.
      - How many rows repeated an id.
    """
    repeated = rows[ID].to_pandas().duplicated().to_numpy()
    distinct = rows.filter(pa.array(~repeated))
    columns = {ID: _single(distinct[ID])}
    if TITLE in rows.column_names:
        title = _single(distinct[TITLE])
        known = ~is_blank(title)
        offsets = np.concatenate([[0], np.cumsum(known)])
        columns[TITLE] = _null_if_empty(_lists(offsets, _bytes(title.filter(pa.array(known)))))
    unparsable: dict[str, int] = {}
    for name, config in configs.items():
        column = FEATURE_PREFIX + name
        columns[column], failures = _feature_lists(_single(distinct[column]), config)
        if failures:
            unparsable[name] = failures
    return pa.table(columns), unparsable, int(repeated.sum())


def lookup(ids: pa.StringArray, entities: pa.Table) -> pa.Table:
    """Returns the rows of ``entities`` for ``ids``; a row of an unknown id has only the id."""
    found = entities.take(pc.index_in(ids, value_set=_single(entities[ID])))
    return found.set_column(found.schema.get_field_index(ID), ID, ids)


def _feature_lists(cells: pa.StringArray, config: FeatureConfig) -> tuple[pa.Array, int]:
    """Splits cells [R] into a list column, and counts unparsable numbers."""
    pieces = pc.split_pattern(pc.fill_null(cells, ""), LIST_SEPARATOR)
    row = np.repeat(np.arange(len(cells)), pc.list_value_length(pieces).to_numpy())
    values = pieces.flatten()
    if config.separator:
        pieces = pc.split_pattern(values, config.separator)
        row = np.repeat(row, pc.list_value_length(pieces).to_numpy())
        values = pieces.flatten()
    values = pc.utf8_trim_whitespace(values)
    keep = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    failures = 0
    if config.kind == "numeric":
        numbers = pd.to_numeric(values.to_pandas(), errors="coerce").to_numpy(np.float32)
        finite = np.isfinite(numbers)
        failures = int((keep & ~finite).sum())
        keep &= finite
        values = pa.array(numbers)
    else:
        values = _bytes(values)
    offsets = np.searchsorted(row[keep], np.arange(len(cells) + 1))
    return _null_if_empty(_lists(offsets, values.filter(pa.array(keep)))), failures


def _feature_columns(entities: pa.Table, feature_name: Callable[[str], str]) -> dict[str, pa.Array]:
    return {
        feature_name(column.removeprefix(FEATURE_PREFIX)): _single(entities[column])
        for column in entities.column_names
        if column.startswith(FEATURE_PREFIX)
    }


def _single(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _bytes(text: pa.StringArray) -> pa.BinaryArray:
    return text.cast(pa.binary())


def _lists(offsets: np.ndarray, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _one_each(values: pa.Array) -> pa.ListArray:
    return _lists(np.arange(len(values) + 1), values)


def _null_if_empty(lists: pa.ListArray) -> pa.Array:
    empty = pc.equal(pc.list_value_length(lists), 0)
    return pc.if_else(empty, pa.scalar(None, lists.type), lists)
