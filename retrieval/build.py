"""Builds the bundle, which is what a server loads, from the files of a trained model."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from contract import manifest
from contract import signatures as names
from retrieval.bundle import RetrievalBundle
from retrieval.config import IndexConfig
from retrieval.filter_costs import choose_limits, measure_filter_costs
from retrieval.filters import ItemCategories
from retrieval.manifest import write_manifest
from retrieval.measure import affordable_people
from retrieval.model_card import write_model_card
from retrieval.people import read_people
from retrieval.save import save_bundle
from retrieval.scann_search import ScannSearch
from retrieval.tower import Tower, retrievable_items, retrievable_vectors
from retrieval.tuning import build_search, queries_of, tune
from retrieval.warmup import write_warmup


def build_bundle(
    model_dir: str,
    example_files: Sequence[str],
    output_dir: str,
    config: IndexConfig,
    facts: Mapping[str, Any],
) -> None:
    """Indexes the model in ``model_dir`` and writes the bundle to ``output_dir``.

    Args:
      model_dir: The Trainer's SavedModel.
      example_files: TFRecord files (gzip) of raw examples with histories, for tuning the index.
      output_dir: The directory for the SavedModel and its ``assets.extra/manifest.json``.
      config: Settings of the index.
      facts: Facts about the run (name, digests, versions), for the manifest.

    Raises:
      ValueError: if no item has a vector or nobody has a history.
    """
    keep_training_state(model_dir, output_dir)
    build_bundle_of(tf.saved_model.load(model_dir), example_files, output_dir, config, facts)


def keep_training_state(model_dir: str, output_dir: str) -> None:
    """Copies the state from which a later training can continue, if ``model_dir`` has it."""
    state = os.path.join(model_dir, manifest.TRAINING_STATE_DIR)
    if not tf.io.gfile.exists(state):
        return
    target = os.path.join(output_dir, manifest.TRAINING_STATE_DIR)
    tf.io.gfile.makedirs(target)
    for name in tf.io.gfile.listdir(state):
        tf.io.gfile.copy(os.path.join(state, name), os.path.join(target, name))


def build_bundle_of(
    tower: Tower,
    example_files: Sequence[str],
    output_dir: str,
    config: IndexConfig,
    facts: Mapping[str, Any],
) -> None:
    """Does what ``build_bundle`` does, for a tower that is already loaded.

    It does not copy the training state.
    """
    start = time.monotonic()
    rows = retrievable_items(tower)
    vectors = retrievable_vectors(tower, rows)
    search = build_search(vectors, config)
    bundle = RetrievalBundle(tower, rows, search, config)
    index: dict[str, Any] = {manifest.RECALL: 1.0, manifest.CURVE: []}
    interests = tower.signatures[names.USER_INTERESTS].structured_outputs[names.INTERESTS]
    if isinstance(search, ScannSearch):
        limit = affordable_people(config.num_queries, len(rows), interests.shape[1:])
        people = read_people(example_files, "tuning", limit, bundle.person_inputs)
        tuned = tune(search, queries_of(bundle, people), config)
        index[manifest.RECALL] = tuned.recall
        index[manifest.CURVE] = [dataclasses.asdict(point) for point in tuned.curve]
        if tuned.searches_saved:
            index[manifest.SEARCHES_SAVED] = tuned.searches_saved
    if bundle.category_ranking is not None:
        ranking = bundle.category_ranking
        categorical = [ranking.items, *ranking.filters.values()]
        costs = measure_filter_costs(
            search,
            next((feature for feature in categorical if isinstance(feature, ItemCategories)), None),
            interests.shape[1] or 1,
            config,
        )
        limits = dataclasses.asdict(choose_limits(costs, config.recall_k, len(rows)))
        ranking.limits.use(**limits)
        index[manifest.FILTERS] = dataclasses.asdict(costs) | limits
    items_config = facts.get(manifest.CONFIG, {}).get("data", {}).get("items")
    save_bundle(bundle, output_dir, items_config)
    most_frequent = tower.item_ids[np.argmax(tower.train_counts.numpy())].numpy()
    write_warmup(output_dir, [most_frequent], config.default_k)
    index |= {**search.describe(), manifest.RECALL_K: config.recall_k}
    facts = {
        **facts,
        manifest.NUM_INTERESTS: interests.shape[1],
        manifest.CATALOGUE: {
            manifest.NUM_ITEMS: int(tf.size(tower.item_ids)),
            manifest.NUM_RETRIEVABLE: len(rows),
            manifest.DIMENSIONS: int(vectors.shape[1]),
        },
        manifest.INDEX: index,
        manifest.BUILD_SECONDS: round(time.monotonic() - start, 1),
    }
    write_model_card(output_dir, facts)
    write_manifest(output_dir, facts)
    logging.info("Indexed %d items: %s", len(rows), search.describe())
