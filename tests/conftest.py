"""Shared set-up of all tests."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
