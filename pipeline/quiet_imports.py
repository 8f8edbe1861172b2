"""Keeps library output during imports off the terminal."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silences logging and warnings for the block, and TensorFlow's own messages permanently."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():  # its argument `action` requires Python 3.11
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
