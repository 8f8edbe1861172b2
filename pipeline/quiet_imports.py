"""Keeps from the terminal what libraries say while they are imported."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silences logging and warnings, and TensorFlow's own messages for good."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():  # its argument `action` is new in Python 3.11
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
