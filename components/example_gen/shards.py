"""Writes the output files, each completely or not at all."""

import os
import uuid
from collections.abc import Iterable

import tensorflow as tf
from tfx.dsl.io import fileio


def shard_name(shard: int, num_shards: int) -> str:
    """Returns the file name of a shard in TFX's format."""
    return f"data_tfrecord-{shard:05d}-of-{num_shards:05d}.gz"


def write_tfrecord(path: str, records: Iterable[bytes], temp_dir: str) -> None:
    """Writes a gzipped TFRecord file.

    The file appears under its name only when it is complete, so that a worker that
    dies or runs twice leaves neither a partial file nor a duplicate.

    Args:
      path: Path of the file, which is replaced if it exists.
      records: Serialised records. Equal records give equal bytes.
      temp_dir: A directory for the unfinished file, on the same file system.
    """
    fileio.makedirs(temp_dir)
    fileio.makedirs(os.path.dirname(path))
    unfinished = os.path.join(temp_dir, uuid.uuid4().hex)
    with tf.io.TFRecordWriter(unfinished, tf.io.TFRecordOptions("GZIP")) as writer:
        for record in records:
            writer.write(record)
    fileio.rename(unfinished, path, overwrite=True)


def write_text(path: str, text: str) -> None:
    """Writes a small UTF-8 file."""
    fileio.makedirs(os.path.dirname(path))
    with fileio.open(path, "w") as file:
        file.write(text)
