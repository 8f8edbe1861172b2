"""Serving a pushed model: server, client and demo page."""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
