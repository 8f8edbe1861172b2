"""A saved bundle of a saved tower, searched with settings that find everything."""

from pathlib import Path
from typing import Literal

import tensorflow as tf

from retrieval.bundle import RetrievalBundle
from retrieval.config import IndexConfig
from retrieval.search import ExactSearch, ScannSearch, ScannSettings
from retrieval.signatures import bundle_signatures
from retrieval.tower import retrievable_items, retrievable_vectors


def save_bundle(
    tower_path: Path, path: Path, kind: Literal["exact", "scann"], config: IndexConfig
) -> None:
    """Loads the tower, indexes all of its items, and saves the bundle to ``path``."""
    tower = tf.saved_model.load(str(tower_path))
    rows = retrievable_items(tower)
    vectors = retrievable_vectors(tower, rows)
    search = (
        ExactSearch(vectors)
        if kind == "exact"
        else ScannSearch(vectors, 0, ScannSettings(1, rows.size), 20)
    )
    bundle = RetrievalBundle(tower, rows, search, config)
    tf.saved_model.save(bundle, str(path), signatures=bundle_signatures(bundle))
