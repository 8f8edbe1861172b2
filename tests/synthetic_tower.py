"""A small SavedModel that keeps the contract of the Trainer's export."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from model.categories import category_table, number_table
from model.network.own_items import own_items
from retrieval.vocabulary import VocabularyInitializer


class Tower(tf.Module):
    """Two interests: the mean of the older and of the newer half of the history.

    A history of one item has one interest only. ``user_taste`` = "inverted"
    negates the interests, so that a test sees whether a profile arrives.
    """

    def __init__(self, ids, vectors, counts, titles=None, categories=None, filters=None) -> None:
        super().__init__()
        titles = [""] * len(ids) if titles is None else titles
        self.item_ids = tf.Variable(ids, trainable=False)
        self.item_vectors = tf.Variable(np.asarray(vectors, np.float32), trainable=False)
        self.train_counts = tf.Variable(np.asarray(counts, np.int64), trainable=False)
        self.item_titles = tf.Variable(titles, trainable=False)
        if categories is not None:
            table = category_table([[name.encode() for name in names] for names in categories])
            self.categories = tf.Variable(table.names.tolist(), trainable=False)
            self.item_categories = tf.Variable(table.items, trainable=False)
        if filters is not None:
            self.filter_names, self.filter_values = {}, {}
        for name, values in (filters or {}).items():
            if isinstance(next(value for row in values for value in row), str):
                table = category_table([[text.encode() for text in row] for row in values])
                self.filter_names[name] = tf.Variable(table.names.tolist(), trainable=False)
                self.filter_values[name] = tf.Variable(table.items, trainable=False)
            else:
                self.filter_values[name] = tf.Variable(number_table(values), trainable=False)
        self.table = tf.lookup.StaticHashTable(VocabularyInitializer(self.item_ids), -1)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "history"),
            {"user_taste": tf.TensorSpec([None], tf.string, "user_taste")},
        ]
    )
    def user_interests(self, history, profile):
        ragged = tf.ragged.boolean_mask(history, self.table.lookup(history) >= 0)
        index = (ragged.with_values(self.table.lookup(ragged.values)) + 1).to_tensor()
        length = tf.cast(ragged.row_lengths(), tf.int32)[:, tf.newaxis]
        column = tf.range(tf.shape(index)[1])[tf.newaxis, :]
        vectors = tf.gather(self.item_vectors.read_value(), tf.maximum(index - 1, 0))
        halves = []
        for half in (column < length // 2, (column >= length // 2) & (column < length)):
            weight = tf.cast(half, tf.float32)[:, :, tf.newaxis]
            halves.append(
                tf.math.divide_no_nan(tf.reduce_sum(vectors * weight, 1), tf.reduce_sum(weight, 1))
            )
        # The newer half is interest 0: the one that is always active.
        interests = tf.math.l2_normalize(tf.stack(halves[::-1], axis=1), axis=-1)
        sign = tf.where(profile["user_taste"] == "inverted", -1.0, 1.0)
        return {
            "interests": interests * sign[:, tf.newaxis, tf.newaxis],
            "interest_mask": tf.concat([length >= 0, length >= 2], axis=1),
            "history_index": index,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def encode_items(self, examples):
        """Vectors by the numeric feature ``point``, see ``encoded``; zeros without it."""
        point = tf.io.parse_example(
            examples, {"item_point": tf.io.FixedLenFeature([], tf.float32, np.nan)}
        )["item_point"]
        angles = point[:, tf.newaxis] * tf.range(1.0, self.item_vectors.shape[1] + 1)
        vectors = tf.math.l2_normalize(tf.cos(angles), axis=1)
        return tf.where(tf.math.is_nan(point)[:, tf.newaxis], 0.0, vectors)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def evaluate(self, examples):
        return {"ranks": tf.ones([tf.shape(examples)[0], 1], tf.int32)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "history"),
            tf.TensorSpec([None], tf.string, "user_taste"),
        ]
    )
    def user_interests_signature(self, history, user_taste):
        return self.user_interests(history, {"user_taste": user_taste})

    def save(self, path: Path) -> None:
        tf.saved_model.save(
            self,
            str(path),
            signatures={
                "user_interests": self.user_interests_signature,
                "evaluate": self.evaluate,
            },
        )


class RepeatingTower(Tower):
    """What somebody has had n times gains n times ``GAIN``."""

    GAIN = 0.4

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "history"),
            {"user_taste": tf.TensorSpec([None], tf.string, "user_taste")},
        ]
    )
    def user_interests(self, history, profile):
        user = super().user_interests(history, profile)
        own = own_items(user["history_index"], limit=100)
        gain = tf.where(own.items > 0, self.GAIN * tf.cast(own.count, tf.float32), 0.0)
        return {**user, "own_index": own.items, "own_bonus": gain}


def encoded(point: float, dim: int) -> np.ndarray:
    """Returns what ``Tower.encode_items`` gives for an item, float32 [dim]."""
    vector = np.cos(np.float32(point) * np.arange(1, dim + 1, dtype=np.float32))
    return vector / np.linalg.norm(vector)


def unit_vectors(num_items: int, dim: int, seed: int = 0) -> np.ndarray:
    """Returns random unit vectors, float32 [num_items, dim]."""
    vectors = np.random.default_rng(seed).normal(size=(num_items, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
