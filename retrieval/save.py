"""Saves a bundle with everything that a server needs of it."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from retrieval.bundle import RetrievalBundle
from retrieval.live_functions import hide_live_functions, live_functions
from retrieval.signatures import bundle_signatures


def save_bundle(
    bundle: RetrievalBundle, model_dir: str, items_config: Mapping[str, Any] | None
) -> None:
    """Writes the SavedModel, and beside it what is known of its live catalogue.

    Args:
      bundle: What is saved.
      model_dir: Gets the SavedModel.
      items_config: See ``hide_live_functions``.
    """
    # Saved like signatures, because each of them then has named inputs and outputs in the graph.
    functions = live_functions(bundle)
    tf.saved_model.save(bundle, model_dir, signatures=bundle_signatures(bundle) | functions)
    if functions:
        hide_live_functions(model_dir, bundle, items_config)
