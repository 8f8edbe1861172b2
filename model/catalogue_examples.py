"""Builds catalogue rows for ``encode_items`` from the values of an item."""

from collections.abc import Mapping

import tensorflow as tf

from contract.catalogue_changes import CATEGORICAL, NUMERIC, FeatureValue
from contract.features import ITEM_ID, side_feature


def catalogue_example(
    item_id: str, features: Mapping[str, FeatureValue], kinds: Mapping[str, str]
) -> bytes:
    """Returns a serialized tf.Example like those that ExampleGen writes for catalogue items.

    Args:
      item_id: The item's id.
      features: Values of the item's side features, by name. Features that the model does not
        have, or has with another kind, are left out, because changes outlive models.
      kinds: The kind of each of the model's side features, by name.
    """
    example = tf.train.Example()
    feature = example.features.feature
    feature[ITEM_ID].bytes_list.value.append(item_id.encode())
    for name, value in features.items():
        kind = kinds.get(name)
        if isinstance(value, float) and kind == NUMERIC:
            feature[side_feature(name)].float_list.value.append(value)
        elif isinstance(value, tuple) and kind == CATEGORICAL:
            feature[side_feature(name)].bytes_list.value.extend(text.encode() for text in value)
    return example.SerializeToString(deterministic=True)
