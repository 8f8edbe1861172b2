"""Serving a pushed model: server, client and demo page."""

import os

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

# TensorFlow's own log repeats values of requests as they are, line breaks included: who
# sends them could forge lines. What fails reaches the server's log as an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
