"""The definition of the pipeline: configuration, wiring, and commands that work on its outputs."""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
