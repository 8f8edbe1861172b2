"""The pipeline's definition: configuration, wiring and the run summary."""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
