"""The Transform step: maps ids and features to integers, by one graph for training and serving."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from contract import features
from contract.config_types import config_dataclass, from_dict

# A vocabulary is a text file with one token per line, but an id may contain a line break.
# The escape character must be escaped first and unescaped last.
_ESCAPES = (("%", "%25"), ("\n", "%0A"), ("\r", "%0D"))


@config_dataclass
class FeaturePreprocessing:
    """One side or profile feature, with the fields of the data configuration."""

    kind: str = "categorical"
    num_buckets: int = 10


@config_dataclass
class PreprocessingConfig:
    """What ``preprocessing_fn`` needs; Transform receives it as ``custom_config``.

    Attributes:
      history_length: T, the number of newest behaviours kept in ``history``.
      times: Whether the model reads the times of behaviours.
      item_features: Side features by name.
      user_features: Profile features by name.
      titles: Whether catalogue rows have a title, which is passed through.
      category: Name of the side feature whose raw values are passed through as the
        item's categories; empty if there is none.
      filters: Side features whose raw values are passed through, because requests filter
        by them.
    """

    history_length: int
    times: bool = False
    titles: bool = False
    category: str = ""
    filters: tuple[str, ...] = ()
    item_features: dict[str, FeaturePreprocessing]
    user_features: dict[str, FeaturePreprocessing]


def preprocessing_fn(
    inputs: Mapping[str, tf.SparseTensor], custom_config: Mapping[str, Any]
) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """Turns raw rows into model inputs; ``contract.features`` names the features of both.

    Item indices 1..N are ordered by frequency in the train split; 0 is padding or
    unknown. Catalogue rows only add tokens, with weight zero, so that they do not affect
    the frequencies. Neither does the context of a chunk, which was counted with the
    previous chunk.

    Args:
      inputs: Raw features; each is a sparse [B, None] tensor.
      custom_config: ``PreprocessingConfig`` as a dict, under ``preprocessing``.

    Returns:
      ``sequence`` sparse [B, None], ``num_context`` [B, 1], ``history``
      [B, T] (newest last, zero padded at the end), ``targets`` sparse
      [B, None] (0 is an unknown target), ``item_index`` [B, 1] and every
      side and profile feature. With ``times`` also ``sequence_time`` and
      ``history_time``, the times in seconds of the items in ``sequence`` and ``history``.
      Titles, categories and filter values are included if the configuration has them.
    """
    config = from_dict(PreprocessingConfig, custom_config["preprocessing"])
    items = inputs[features.ITEM_ID]
    rows = items.dense_shape[0]
    num_targets = _first_value(inputs[features.NUM_TARGETS], rows)  # [B]
    num_context = _first_value(inputs[features.NUM_CONTEXT], rows)  # [B]
    is_sequence = _first_value(_ones_like(inputs[features.USER_ID]), rows)  # [B], 1 or 0

    row_of = items.indices[:, 0]  # [events]
    position = items.indices[:, 1]  # [events], within the row
    counted = (position >= tf.gather(num_context, row_of)) & (tf.gather(is_sequence, row_of) > 0)
    tokens = _to_tokens(items.values)
    vocabulary = tft.vocabulary(
        tokens,
        weights=tf.cast(counted, tf.float32),
        vocab_filename=features.ITEM_VOCABULARY,
    )
    index = 1 + tft.apply_vocabulary(tokens, vocabulary, default_value=-1)  # [events], 0: unknown

    length = tf.math.bincount(
        tf.cast(row_of, tf.int32), minlength=tf.cast(rows, tf.int32), dtype=tf.int64
    )  # [B]
    is_target = position >= tf.gather(length - num_targets, row_of)  # [events]
    ragged = tf.RaggedTensor.from_value_rowids(index, row_of, nrows=rows)

    def select(mask: tf.Tensor, values: tf.Tensor = index) -> tf.RaggedTensor:
        return tf.ragged.boolean_mask(ragged.with_values(values), ragged.with_values(mask))

    def newest(chosen: tf.RaggedTensor) -> tf.Tensor:
        return chosen[:, -config.history_length :].to_tensor(shape=[None, config.history_length])

    known = index > 0
    outputs: dict[str, tf.Tensor | tf.SparseTensor] = {
        features.SEQUENCE: select(known).to_sparse(),
        features.NUM_CONTEXT: num_context[:, tf.newaxis],
        features.HISTORY: newest(select(known & ~is_target)),
        features.TARGETS: select(is_target).to_sparse(),
        features.ITEM_INDEX: ragged[:, :1].to_tensor(shape=[None, 1]),
    }
    if config.times:
        times = _aligned(inputs[features.TIMESTAMP], items)  # [events]
        outputs[features.SEQUENCE_TIME] = select(known, times).to_sparse()
        outputs[features.HISTORY_TIME] = newest(select(known & ~is_target, times))
    if config.titles:
        outputs[features.TITLE] = inputs[features.TITLE]
    if config.category:
        outputs[features.CATEGORY] = inputs[features.side_feature(config.category)]
    for name in config.filters:
        outputs[features.filter_feature(name)] = inputs[features.side_feature(name)]
    for name, feature in config.item_features.items():
        key = features.side_feature(name)
        outputs[key] = _known_values(_feature_index(inputs[key], feature, key))
    for name, feature in config.user_features.items():
        key = features.profile_feature(name)
        outputs[key] = _first_value(_feature_index(inputs[key], feature, key), rows)[:, tf.newaxis]
    return outputs


def item_ids(transform_output: tft.TFTransformOutput) -> list[bytes]:
    """Returns item ids in vocabulary order: position i is item index i + 1."""
    return [_from_token(t) for t in transform_output.vocabulary_by_name(features.ITEM_VOCABULARY)]


def _to_tokens(values: tf.Tensor) -> tf.Tensor:
    for sign, escaped in _ESCAPES:
        values = tf.strings.regex_replace(values, sign, escaped)
    return values


def _from_token(token: bytes) -> bytes:
    for sign, escaped in reversed(_ESCAPES):
        token = token.replace(escaped.encode(), sign.encode())
    return token


def _feature_index(
    values: tf.SparseTensor, feature: FeaturePreprocessing, key: str
) -> tf.SparseTensor:
    """Returns the indices of a feature's values, from 1; 0 is unknown."""
    if feature.kind == "numeric":
        index = tft.bucketize(values, feature.num_buckets, name=key)
    else:
        tokens = tf.SparseTensor(values.indices, _to_tokens(values.values), values.dense_shape)
        index = tft.compute_and_apply_vocabulary(tokens, default_value=-1, vocab_filename=key)
    return tf.SparseTensor(index.indices, tf.cast(index.values, tf.int64) + 1, index.dense_shape)


def _known_values(index: tf.SparseTensor) -> tf.SparseTensor:
    ragged = tf.RaggedTensor.from_value_rowids(
        index.values, index.indices[:, 0], nrows=index.dense_shape[0]
    )
    return tf.ragged.boolean_mask(ragged, ragged > 0).to_sparse()


def _aligned(values: tf.SparseTensor, items: tf.SparseTensor) -> tf.Tensor:
    """Returns the value at each item's position, [events]; 0 where there is none."""
    shape = tf.maximum(values.dense_shape, items.dense_shape)
    return tf.gather_nd(tf.sparse.to_dense(tf.sparse.reset_shape(values, shape)), items.indices)


def _ones_like(values: tf.SparseTensor) -> tf.SparseTensor:
    ones = tf.ones_like(values.indices[:, 0])
    return tf.SparseTensor(values.indices, ones, values.dense_shape)


def _first_value(values: tf.SparseTensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns the first value of each row, int64 [B]; 0 where a row is empty."""
    is_first = values.indices[:, 1] == 0
    first_row = tf.boolean_mask(values.indices, is_first)[:, :1]
    first = tf.boolean_mask(tf.cast(values.values, tf.int64), is_first)
    return tf.scatter_nd(first_row, first, [rows])
