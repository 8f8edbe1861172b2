"""Saves a bundle with everything that a server needs."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from retrieval.bundle import RetrievalBundle
from retrieval.live_functions import hide_live_functions, live_functions
from retrieval.signatures import bundle_signatures


def save_bundle(
    bundle: RetrievalBundle, model_dir: str, items_config: Mapping[str, Any] | None
) -> None:
    """Writes the SavedModel and, if its catalogue can be changed, a description of how.

    Args:
      bundle: The bundle to save.
      model_dir: The directory for the SavedModel.
      items_config: See ``hide_live_functions``.
    """
    # Saving the functions as signatures gives them named inputs and outputs in the graph.
    functions = live_functions(bundle)
    tf.saved_model.save(bundle, model_dir, signatures=bundle_signatures(bundle) | functions)
    if functions:
        hide_live_functions(model_dir, bundle, items_config)
