"""Reads Transform's output: sequences, held-out people and the catalogue."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from contract import features
from model.catalogue import Catalogue

_BATCH = 4096


class HeldOutPeople(NamedTuple):
    """People of the eval split.

    Attributes:
      history: int32 [U, T], newest last, zero padded at the end.
      targets: Item indices per person; 0 is an unknown item.
      excluded: int32 [U, H], all known items before the targets, including items
        older than the history that the model reads; zero padded.
      profile: int32 [U] by profile feature name.
      times: int64 [U, T], times of the history in seconds; None if not requested.
    """

    history: np.ndarray
    targets: list[np.ndarray]
    excluded: np.ndarray
    profile: dict[str, np.ndarray]
    times: np.ndarray | None


def read_rows(
    patterns: Sequence[str], transform_output: tft.TFTransformOutput, names: Sequence[str]
) -> tf.data.Dataset:
    """Returns batches of parsed transformed rows; variable-length features are ragged.

    Args:
      patterns: File patterns of gzipped TFRecords.
      transform_output: Output of the Transform step.
      names: Names of the features to parse.

    Raises:
      FileNotFoundError: if no file matches the patterns.
    """
    spec = transform_output.transformed_feature_spec()
    parse = {
        name: tf.io.RaggedFeature(spec[name].dtype, row_splits_dtype=tf.int64)
        if isinstance(spec[name], tf.io.VarLenFeature)
        else spec[name]
        for name in names
    }
    found = (path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    # Sorting by file name first reads the shards of several splits alternately.
    files = sorted(found, key=lambda path: (os.path.basename(path), path))
    if not files:
        raise FileNotFoundError(f"expected transformed examples at {list(patterns)}, found none")
    return (
        tf.data.TFRecordDataset(files, compression_type="GZIP")
        .batch(_BATCH)
        .map(lambda rows: tf.io.parse_example(rows, parse), num_parallel_calls=2)
    )


def read_sequences(
    patterns: Sequence[str],
    transform_output: tft.TFTransformOutput,
    profile_names: Sequence[str],
    with_times: bool = False,
) -> tf.data.Dataset:
    """Reads train sequences in the form that ``model.training.loop.fit`` takes."""
    times = [features.SEQUENCE_TIME] * with_times

    def select(row: dict[str, Any]) -> dict[str, Any]:
        return {
            features.SEQUENCE: tf.cast(row[features.SEQUENCE], tf.int32),
            features.NUM_CONTEXT: tf.cast(row[features.NUM_CONTEXT][:, 0], tf.int32),
            "profile": {name: tf.cast(row[name][:, 0], tf.int32) for name in profile_names},
            **{name: row[name] for name in times},
        }

    names = [features.SEQUENCE, features.NUM_CONTEXT, *profile_names, *times]
    return read_rows(patterns, transform_output, names).map(select)


def read_people(
    patterns: Sequence[str],
    transform_output: tft.TFTransformOutput,
    profile_names: Sequence[str],
    max_people: int,
    with_times: bool = False,
) -> HeldOutPeople:
    """Reads the first ``max_people`` people of a split with held-out items."""
    history: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    excluded: list[np.ndarray] = []
    profile: dict[str, list[np.ndarray]] = {name: [] for name in profile_names}
    times: list[np.ndarray] = []
    names = [features.SEQUENCE, features.HISTORY, features.TARGETS, *profile_names]
    names += [features.HISTORY_TIME] * with_times
    for rows in read_rows(patterns, transform_output, names):
        history.append(rows[features.HISTORY].numpy())
        if with_times:
            times.append(rows[features.HISTORY_TIME].numpy())
        new_targets = [np.asarray(row, np.int32) for row in rows[features.TARGETS].to_list()]
        targets += new_targets
        for items, held_out in zip(rows[features.SEQUENCE].to_list(), new_targets, strict=True):
            known = int(np.count_nonzero(held_out))
            excluded.append(np.asarray(items[: len(items) - known], np.int32))
        for name in profile_names:
            profile[name].append(rows[name].numpy()[:, 0])
        if len(targets) >= max_people:
            break
    return HeldOutPeople(
        history=np.concatenate(history).astype(np.int32)[:max_people],
        targets=targets[:max_people],
        excluded=_padded(excluded[:max_people]),
        profile={
            name: np.concatenate(values).astype(np.int32)[:max_people]
            for name, values in profile.items()
        },
        times=np.concatenate(times)[:max_people] if with_times else None,
    )


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    table = np.zeros((len(rows), max((len(row) for row in rows), default=1)), np.int32)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table


def train_counts(sequences: tf.data.Dataset, num_items: int) -> np.ndarray:
    """Counts train events per item index, int64 [N + 1], without the context of chunks."""
    counts = np.zeros(num_items + 1, np.int64)
    for rows in sequences:
        sequence = rows[features.SEQUENCE]
        position = tf.ragged.range(sequence.row_lengths())
        new = position >= tf.cast(rows[features.NUM_CONTEXT], position.dtype)[:, tf.newaxis]
        values = tf.ragged.boolean_mask(sequence, new).values.numpy()
        counts += np.bincount(values, minlength=num_items + 1)
    return counts


class ItemTexts(NamedTuple):
    """Titles, categories and filter values of the items, in vocabulary order.

    Attributes:
      titles: [N], "" for an item without a title.
      categories: [N], the names of each item's categories; None if the catalogue
        has no categories.
      filters: By side feature name, the values of each item, [N], as bytes or numbers.
    """

    titles: list[bytes]
    categories: list[list[bytes]] | None
    filters: Mapping[str, list[list[Any]]] = {}


def read_catalogue(
    patterns: Sequence[str],
    transform_output: tft.TFTransformOutput,
    item_features: Sequence[str],
    counts: np.ndarray,
    with_titles: bool,
    with_categories: bool,
    filters: Sequence[str] = (),
) -> tuple[Catalogue, ItemTexts]:
    """Reads the catalogue, with titles, categories and filter values.

    Args:
      patterns: File patterns of the catalogue split.
      transform_output: Output of the Transform step.
      item_features: Transformed names of the side features.
      counts: Result of ``train_counts``.
      with_titles: Whether rows have titles.
      with_categories: Whether rows have categories.
      filters: Names of the side features whose raw values the rows contain.
    """
    num_items = len(counts) - 1
    titles = [b""] * num_items
    categories: list[list[bytes]] = [[] for _ in range(num_items)]
    raw: dict[str, list[list[Any]]] = {name: [[] for _ in range(num_items)] for name in filters}
    values: dict[str, dict[int, list[int]]] = {name: {} for name in item_features}
    names = [features.ITEM_INDEX, *item_features]
    names += [features.TITLE] * with_titles + [features.CATEGORY] * with_categories
    names += [features.filter_feature(name) for name in filters]
    for rows in read_rows(patterns, transform_output, names):
        index = rows[features.ITEM_INDEX].numpy()[:, 0]
        for name in item_features:
            values[name].update(zip(index.tolist(), rows[name].to_list(), strict=True))
        if with_titles:
            for item, title in zip(index, rows[features.TITLE].to_list(), strict=True):
                titles[item - 1] = title[0] if title else b""
        if with_categories:
            for item, category in zip(index, rows[features.CATEGORY].to_list(), strict=True):
                categories[item - 1] = category
        for name, of_items in raw.items():
            carried = rows[features.filter_feature(name)].to_list()
            for item, found in zip(index, carried, strict=True):
                of_items[item - 1] = found
    tables, sizes = {}, {}
    for name, by_item in values.items():
        width = max(1, max((len(v) for v in by_item.values()), default=1))
        table = np.zeros((num_items + 1, width), np.int32)
        for item, indices in by_item.items():
            table[item, : len(indices)] = indices
        tables[name] = table
        sizes[name] = int(table.max()) + 1
    catalogue = Catalogue(train_counts=counts, side_features=tables, side_vocab_sizes=sizes)
    return catalogue, ItemTexts(titles, categories if with_categories else None, raw)


def profile_vocab_sizes(
    transform_output: tft.TFTransformOutput, user_features: dict[str, Any]
) -> dict[str, int]:
    """Returns the largest index + 1 of each profile feature, by transformed name.

    Args:
      transform_output: Output of the Transform step.
      user_features: ``FeaturePreprocessing`` by name.
    """
    sizes = {}
    for name, feature in user_features.items():
        key = features.profile_feature(name)
        if feature.kind == "numeric":
            sizes[key] = feature.num_buckets + 1
        else:
            sizes[key] = transform_output.vocabulary_size_by_name(key) + 1
    return sizes
