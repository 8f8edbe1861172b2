"""Developer tools, which imitate Kubeflow on one machine."""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
