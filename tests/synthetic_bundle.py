"""A saved bundle of a saved tower, searched with settings that find everything."""

from pathlib import Path
from typing import Literal

import tensorflow as tf

from retrieval.bundle import RetrievalBundle
from retrieval.config import IndexConfig
from retrieval.save import save_bundle as save
from retrieval.scann_search import ScannSearch, ScannSettings
from retrieval.search import ExactSearch
from retrieval.tower import retrievable_items, retrievable_vectors

# What tests.synthetic_tower's ``encode_items`` reads.
ITEMS_CONFIG = {"features": {"point": {"kind": "numeric"}, "category": {"kind": "categorical"}}}


def save_bundle(
    tower_path: Path, path: Path, kind: Literal["exact", "scann", "tree"], config: IndexConfig
) -> None:
    """Loads the tower, indexes all of its items, and saves the bundle to ``path``."""
    tower = tf.saved_model.load(str(tower_path))
    rows = retrievable_items(tower)
    vectors = retrievable_vectors(tower, rows)
    num_leaves = 10 if kind == "tree" else 0
    search = (
        ExactSearch(vectors)
        if kind == "exact"
        else ScannSearch(vectors, num_leaves, ScannSettings(max(num_leaves, 1), rows.size), 20)
    )
    bundle = RetrievalBundle(tower, rows, search, config)
    save(bundle, str(path), ITEMS_CONFIG)
