"""The retrieval library: search, ranking, filters, the served bundle, its validation and push.

Index builder, index validator, pusher, item refresh, report and benchmarks share
it. It imports neither ``components`` nor ``pipeline``.
"""

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
