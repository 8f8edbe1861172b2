"""The views of a run: progress at the terminal, summary, HTML report."""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
