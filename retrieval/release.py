"""Reads the release state of a push destination, on any file system that TensorFlow supports."""

import os

import tensorflow as tf

from contract.release import ReleaseState, parse
from contract.release_file import FILE_NAME

gfile = tf.io.gfile


def read_release(push_destination: str) -> ReleaseState:
    """Returns the release state of the versions in ``push_destination``.

    If the file does not exist, no version is pinned, on trial or withdrawn.

    Raises:
      ReleaseError: if the file is damaged or has a later format.
    """
    path = os.path.join(push_destination, FILE_NAME)
    if not gfile.exists(path):
        return ReleaseState()
    with gfile.GFile(path, "r") as file:
        return parse(file.read(), path)
