"""``CapsuleLayer`` and ``LabelAwareAttention`` in a ten-line Keras model.

    python examples/ten_lines.py

The model learns, on random data, whether an item is in a person's history. There are
1,000 items, and each history has up to 20 of them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

# isort: split
import numpy as np
import tensorflow as tf

from model.network.attention import LabelAwareAttention
from model.network.capsule import CapsuleLayer

PEOPLE, ITEMS, LENGTH, DIM, INTERESTS = 2_000, 1_000, 20, 16, 4


def make_model() -> tf.keras.Model:
    """Builds the model.

    It takes histories [B, LENGTH], their lengths [B, 1] and items [B, 1], and gives
    probabilities [B, 1].
    """
    history = tf.keras.Input([LENGTH], dtype=tf.int32)
    length = tf.keras.Input([1], dtype=tf.int32)
    item = tf.keras.Input([1], dtype=tf.int32)
    embedding = tf.keras.layers.Embedding(ITEMS + 1, DIM)
    target = embedding(item)  # [B, 1, DIM]
    interests = CapsuleLayer(DIM, DIM, LENGTH, INTERESTS)([embedding(history), length])
    person = LabelAwareAttention(INTERESTS, pow_p=2)([interests, target, length])  # [B, DIM]
    score = tf.keras.layers.Dot(axes=1)([person, tf.keras.layers.Flatten()(target)])
    probability = tf.keras.layers.Dense(1, activation="sigmoid")(score)
    return tf.keras.Model([history, length, item], probability)


def make_data(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns inputs and labels; about half of the items are from the person's own history."""
    rng = np.random.default_rng(seed)
    length = rng.integers(2, LENGTH + 1, (PEOPLE, 1))
    history = rng.integers(1, ITEMS + 1, (PEOPLE, LENGTH)) * (np.arange(LENGTH) < length)
    label = rng.integers(0, 2, (PEOPLE, 1))
    own = np.take_along_axis(history, rng.integers(0, length), axis=1)
    other = rng.integers(1, ITEMS + 1, (PEOPLE, 1))
    return [history, length, np.where(label == 1, own, other)], label


def main(epochs: int = 20) -> tf.keras.callbacks.History:
    """Trains the model and returns the Keras history."""
    tf.keras.utils.set_random_seed(1)
    mind = make_model()
    mind.compile(tf.keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    inputs, label = make_data()
    return mind.fit(inputs, label, batch_size=100, epochs=epochs, verbose=2)


if __name__ == "__main__":
    main()
