"""Custom TFX components, one folder each."""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
