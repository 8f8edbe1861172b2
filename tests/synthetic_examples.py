"""Raw sequence examples as ExampleGen writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf


def sequence_example(
    user_id: str,
    items: Sequence[str],
    num_targets: int = 1,
    profile: Mapping[str, str | float] | None = None,
    times: Sequence[int] = (),
) -> tf.train.Example:
    """Returns one person's history and targets."""
    features = {
        "user_id": _strings([user_id]),
        "item_id": _strings(items),
        "num_targets": _integers([num_targets]),
        "timestamp": _integers(times),
    }
    for name, value in (profile or {}).items():
        features[name] = (
            _strings([value])
            if isinstance(value, str)
            else tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        )
    return tf.train.Example(features=tf.train.Features(feature=features))


def write_examples(path: Path, examples: Sequence[tf.train.Example]) -> str:
    """Writes a TFRecord (gzip) file and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    return str(path)


def _integers(values: Sequence[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _strings(values: Sequence[str]) -> tf.train.Feature:
    encoded = [value.encode() for value in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
