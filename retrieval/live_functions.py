"""The functions with which a server changes the catalogue of a version, and their description.

They are saved as signatures and then removed from the list of signatures, so that clients cannot
call them; see ``contract.live_catalogue``.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from contract import live_catalogue as names
from contract.versions import SAVED_MODEL_FILE
from retrieval.bundle import RetrievalBundle
from retrieval.filters import ItemCategories
from retrieval.item_numbers import ItemNumbers
from retrieval.live_items import LiveItems
from retrieval.tower import TowerThatEncodes


def live_functions(bundle: RetrievalBundle) -> dict[str, Any]:
    """Returns ``describe_items`` and ``apply_changes`` of ``bundle``, by name.

    The result is empty if the catalogue cannot be changed.
    """
    live = bundle.live
    if not isinstance(live, LiveItems):
        return {}
    dimensions = bundle.search.vectors.shape[1]
    strings = tf.TensorSpec([None], tf.string)
    numbers = tf.TensorSpec([None], tf.int32)
    return {
        names.DESCRIBE: _function(
            lambda **inputs: _describe(bundle, live, **inputs),
            {
                names.IDS: strings,
                names.EXAMPLES: strings,
                **_column_specs(live, describe=True),
            },
        ),
        names.APPLY: _function(
            lambda **inputs: _apply(live, **inputs),
            {
                names.SLOTS: numbers,
                names.IDS: strings,
                names.NEW_TITLES: strings,
                names.VECTORS: tf.TensorSpec([None, dimensions], tf.float32),
                names.COUNTS: tf.TensorSpec([None], tf.float32),
                **_column_specs(live, describe=False),
                names.FREED_IDS: strings,
                names.POSITIONS: numbers,
                names.REPLACED_BY: numbers,
                names.NUM_REPLACED: tf.TensorSpec([], tf.int32),
                names.ORDER: numbers,
                names.STARTS: numbers,
                names.FRESH: numbers,
            },
        ),
    }


def hide_live_functions(
    model_dir: str, bundle: RetrievalBundle, items_config: Mapping[str, Any] | None
) -> None:
    """Removes the functions from the signatures and describes them in a file of the bundle.

    Args:
      model_dir: The directory of the saved bundle.
      bundle: The bundle that was saved.
      items_config: ``data.items`` of the configuration, which names the side features. None if
        there is none; then changed features give no new item vectors.
    """
    path = os.path.join(model_dir, SAVED_MODEL_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    (meta_graph,) = saved.meta_graphs
    functions = {}
    for name in (names.DESCRIBE, names.APPLY):
        functions[name] = json_format.MessageToDict(meta_graph.signature_def[name])
        del meta_graph.signature_def[name]
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))
    features = (items_config or {}).get("features") or {}
    is_encoder = isinstance(bundle.tower, TowerThatEncodes)
    description = {
        names.FUNCTIONS: functions,
        names.FEATURES: {name: spec.get("kind", "categorical") for name, spec in features.items()}
        if is_encoder
        else {},
        names.COLUMNS: _column_features(bundle, items_config),
        names.NUM_LEAVES: bundle.live.num_leaves,
        names.NUM_PUSHED: bundle.live.num_pushed,
    }
    path = os.path.join(model_dir, names.LIVE_CATALOGUE_PATH)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(description, indent=2, sort_keys=True))


def _column_features(
    bundle: RetrievalBundle, items_config: Mapping[str, Any] | None
) -> dict[str, str]:
    """Returns the name of the feature of each column."""
    features = {}
    if bundle.item_categories is not None:
        category = (items_config or {}).get("category_feature")
        features[names.CATEGORIES] = category or names.CATEGORY
    ranking = bundle.category_ranking
    for feature in ranking.filters if ranking else ():
        features[names.filter_column(feature)] = feature
    return features


def _column_specs(live: LiveItems, *, describe: bool) -> dict[str, tf.TensorSpec]:
    """Returns the specs of what ``describe_items`` or ``apply_changes`` takes for the columns."""
    specs = {}
    for name, column in live.columns.items():
        if describe:
            if column.new is not None:
                specs[names.given_names(name)] = tf.TensorSpec([None, None], tf.string)
            continue
        specs[names.new_values(name)] = tf.TensorSpec([None, None], column.dtype)
        if column.new is not None:
            specs[names.new_names(name)] = tf.TensorSpec([None], tf.string)
    return specs


def _describe(
    bundle: RetrievalBundle,
    live: LiveItems,
    ids: tf.Tensor,
    examples: tf.Tensor,
    **given: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Returns what this version knows of items, and the vectors of changed items.

    Args:
      bundle: The bundle.
      live: The changes so far.
      ids: string [M], the items.
      examples: string [M], serialized catalogue rows; "" leaves the vector as it was pushed.
      given: For each categorical column, the items' values, string [M, F], padded with "".

    Returns:
      The outputs by the names in ``contract.live_catalogue``.
    """
    positions = bundle.items.pushed_positions(ids)
    is_pushed = positions >= 0
    pushed = tf.maximum(positions, 0)
    vectors = tf.gather(bundle.search.vectors.read_value(), pushed)
    vectors = tf.where(is_pushed[:, tf.newaxis], vectors, 0.0)
    if isinstance(bundle.tower, TowerThatEncodes):
        encoded = bundle.tower.encode_items(examples)
        vectors = tf.where((examples != "")[:, tf.newaxis], encoded, vectors)
    outputs = {
        names.POSITIONS: positions,
        names.VECTORS: vectors,
        names.LEAVES: live.leaves_of(vectors),
        names.COUNTS: tf.where(is_pushed, tf.gather(bundle.popular.counts, pushed), 0.0),
        names.PUSHED_TITLES: bundle.items.pushed_titles(ids),
    }
    for name, feature in _features_of_columns(bundle).items():
        outputs[names.pushed_values(name)] = feature.pushed(positions)
        new = live.columns[name].new
        if new is not None and isinstance(feature, ItemCategories):
            outputs[names.numbers_of_names(name)] = feature.numbers(given[names.given_names(name)])
            outputs[names.num_names(name)] = new.num_names
    return outputs


def _features_of_columns(bundle: RetrievalBundle) -> dict[str, ItemCategories | ItemNumbers]:
    """Returns the feature of each column."""
    found: dict[str, ItemCategories | ItemNumbers] = {}
    if bundle.item_categories is not None:
        found[names.CATEGORIES] = bundle.item_categories
    ranking = bundle.category_ranking
    for name, feature in ranking.filters.items() if ranking else ():
        found[names.filter_column(name)] = feature
    return found


def _apply(live: LiveItems, **changes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Applies changes; see ``LiveItems.apply``."""
    values = {name: changes.pop(names.new_values(name)) for name in live.columns}
    for name, column in live.columns.items():
        if column.new is not None:
            column.new.add(changes.pop(names.new_names(name)))
    live.apply(values=values, **changes)
    return {names.NUM_FOUND: live.num_found.read_value()}


def _function(body: Any, specs: Mapping[str, tf.TensorSpec]) -> Any:
    keys = list(specs)

    def call(*args: tf.Tensor) -> dict[str, tf.Tensor]:
        return body(**dict(zip(keys, args, strict=True)))

    signature = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()]
    return tf.function(call, input_signature=signature, autograph=False)
