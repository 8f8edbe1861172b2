"""Small SavedModels for the serving tests."""

import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf


def save_half_plus_two(
    path: Path, half: float = 0.5, plus: float = 2.0, ballast_bytes: int = 0
) -> None:
    """Saves TF Serving's example model: ``y = x / 2 + 2``, and relatives of it.

    Signatures: ``serving_default`` x -> y; ``two`` x1, x2 -> sum, difference;
    ``defaults`` x, plus (default 2), scale (default 1) -> y; ``bytes`` image_bytes
    -> echo_bytes, length; ``scalar`` x -> y without a batch dimension; ``types``
    one input of each type, returned as they are; ``number`` text -> number;
    ``version`` x -> first, second, both ``half``. ``ballast_bytes`` makes the model take
    that much memory.
    """
    module = tf.Module()
    module.half = tf.Variable(half, dtype=tf.float32)
    module.again = tf.Variable(half, dtype=tf.float32)
    module.plus = tf.Variable(plus, dtype=tf.float32)
    module.ballast = tf.Variable(tf.zeros([ballast_bytes], tf.int8))
    column = tf.TensorSpec([None], tf.float32)

    @tf.function(input_signature=[column])
    def half_plus_two(x):
        return {"y": x * module.half + module.plus}

    @tf.function(input_signature=[column, column])
    def two(x1, x2):
        return {"sum": x1 + x2, "difference": x1 - x2}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, "x"),
            tf.TensorSpec([], tf.float32, "plus"),
            tf.TensorSpec([None], tf.float32, "scale"),
        ]
    )
    def defaults(x, plus=tf.constant(2.0), scale=tf.constant([1.0])):  # noqa: B008
        tf.debugging.assert_non_negative(plus, "plus must be >= 0")
        return {"y": x * scale + plus}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def of_bytes(image_bytes):
        return {"echo_bytes": image_bytes, "length": tf.strings.length(image_bytes)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
    def scalar(x):
        return {"y": x}

    types = {
        "a_float": tf.float32,
        "a_double": tf.float64,
        "an_int32": tf.int32,
        "an_int64": tf.int64,
        "a_uint8": tf.uint8,
        "a_bool": tf.bool,
        "a_string": tf.string,
    }

    @tf.function(input_signature=[tf.TensorSpec(None, t, n) for n, t in types.items()])
    def of_types(a_float, a_double, an_int32, an_int64, a_uint8, a_bool, a_string):
        values = (a_float, a_double, an_int32, an_int64, a_uint8, a_bool, a_string)
        return {f"{n}_out": tf.identity(v) for n, v in zip(types, values, strict=True)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def number(text):
        return {"number": tf.strings.to_number(text)}

    @tf.function(input_signature=[column])
    def version(x):
        ones = tf.ones_like(x)
        return {"first": ones * module.half, "second": ones * module.again}

    tf.saved_model.save(
        module,
        str(path),
        signatures={
            "serving_default": half_plus_two,
            "two": two,
            "defaults": defaults,
            "bytes": of_bytes,
            "scalar": scalar,
            "types": of_types,
            "number": number,
            "version": version,
        },
    )


_VARIABLES = Path("variables", "variables")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # ends the keys of values in a checkpoint


def copy_with_half(saved: Path, path: Path, half: float) -> None:
    """Copies a ``save_half_plus_two`` with another ``half``: much quicker than saving it."""
    shutil.copytree(saved, path)
    before = tf.train.load_checkpoint(str(saved / _VARIABLES))
    values = {
        key.removesuffix(_VALUE): before.get_tensor(key)
        for key in before.get_variable_to_shape_map()
        if key.endswith(_VALUE)
    }
    values.update(half=np.float32(half), again=np.float32(half))
    variables = {name: tf.Variable(value) for name, value in values.items()}
    tf.train.Checkpoint(**variables).write(str(path / _VARIABLES))


RECOMMENDER_ITEMS = 200


def save_recommender(path: Path, num_items: int = RECOMMENDER_ITEMS, dim: int = 8) -> None:
    """Saves a toy recommender with the signatures of a pushed bundle.

    Item ids are "1" .. "N", titles "Title <id>" (that of "13" looks like markup),
    interests the means of the first and the second half of the history.
    """
    rng = np.random.default_rng(7)
    ids = [str(i) for i in range(1, num_items + 1)]
    vectors = rng.normal(size=(num_items, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    module = tf.Module()
    module.ids = tf.Variable(ids)
    module.titles = tf.Variable(["<b>Bold</b> & co" if i == "13" else f"Title {i}" for i in ids])
    module.vectors = tf.Variable(vectors)
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(ids, tf.range(num_items)), -1
    )
    histories = tf.TensorSpec([None, None], tf.string, "history")
    excludes = tf.TensorSpec([None, None], tf.string, "exclude")
    items = tf.TensorSpec([None], tf.string, "items")

    def interests_of(history):
        rows = module.table.lookup(history)
        known = rows >= 0
        vectors = tf.gather(module.vectors, tf.maximum(rows, 0)) * tf.cast(
            known[..., tf.newaxis], tf.float32
        )
        place = tf.cumsum(tf.cast(known, tf.int32), axis=1)
        count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1, keepdims=True)
        first = tf.cast(place * 2 <= count, tf.float32)[..., tf.newaxis]
        halves = [tf.reduce_sum(vectors * h, axis=1) for h in (first, 1.0 - first)]
        return tf.math.l2_normalize(tf.stack(halves, axis=1), axis=-1), rows, count[:, 0]

    @tf.function(
        input_signature=[
            histories,
            tf.TensorSpec(None, tf.int32, "k"),
            excludes,
            tf.TensorSpec(None, tf.bool, "exclude_history"),
            tf.TensorSpec([None], tf.string, "user_age"),
        ]
    )
    def recommend(
        history,
        k=tf.constant(10),  # noqa: B008
        exclude=tf.constant([[""]]),  # noqa: B008
        exclude_history=tf.constant(True),  # noqa: B008
        user_age=tf.constant([""]),  # noqa: B008
    ):
        k = tf.reshape(k, [-1])
        with tf.control_dependencies(
            [
                tf.debugging.assert_positive(k, "k must be from 1 to 1000"),
                tf.debugging.assert_less_equal(k, 1000, "k must be from 1 to 1000"),
                tf.strings.length(user_age),
            ]
        ):
            width = tf.reduce_max(k)
        interests, rows, count = interests_of(history)
        scores = tf.einsum("bkd,nd->bkn", interests, module.vectors)
        best = tf.reduce_max(scores, axis=1)
        excluded = tf.one_hot(module.table.lookup(exclude), num_items)
        best -= 1e9 * tf.reduce_sum(excluded, axis=1)
        seen = tf.reduce_sum(tf.one_hot(rows, num_items), axis=1)
        best -= 1e9 * seen * tf.cast(tf.reshape(exclude_history, [-1, 1]), tf.float32)
        fetched = tf.minimum(width, num_items)
        top = tf.math.top_k(best, fetched)
        index = tf.argmax(tf.gather(scores, top.indices, axis=2, batch_dims=1), axis=1)
        real = top.values > -1e8
        pad = [[0, 0], [0, width - fetched]]
        return {
            "item_ids": tf.pad(tf.where(real, tf.gather(module.ids, top.indices), ""), pad),
            "scores": tf.pad(tf.where(real, top.values, 0.0), pad),
            "interest_index": tf.pad(
                tf.where(real & (count > 0)[:, tf.newaxis], tf.cast(index, tf.int32), -1),
                pad,
                constant_values=-1,
            ),
            "num_known": count,
        }

    @tf.function(input_signature=[histories, tf.TensorSpec([None], tf.string, "user_age")])
    def user_interests(history, user_age=tf.constant([""])):  # noqa: B008
        interests, rows, _ = interests_of(history)
        with tf.control_dependencies([tf.strings.length(user_age)]):
            mask = tf.reduce_any(interests != 0.0, axis=-1)
        return {"interests": interests, "interest_mask": mask, "history_index": rows + 1}

    @tf.function(input_signature=[items])
    def item_embeddings(items):
        rows = module.table.lookup(items)
        known = rows >= 0
        vectors = tf.gather(module.vectors, tf.maximum(rows, 0))
        return {"vectors": tf.where(known[:, tf.newaxis], vectors, 0.0), "known": known}

    @tf.function(input_signature=[items])
    def item_titles(items):
        rows = module.table.lookup(items)
        titles = tf.gather(module.titles, tf.maximum(rows, 0))
        return {"titles": tf.where(rows >= 0, titles, ""), "known": rows >= 0}

    @tf.function(
        input_signature=[
            tf.TensorSpec([], tf.int32, "offset"),
            tf.TensorSpec([], tf.int32, "limit"),
        ]
    )
    def list_items(offset=tf.constant(0), limit=tf.constant(1000)):  # noqa: B008
        rows = tf.range(tf.minimum(offset, num_items), tf.minimum(offset + limit, num_items))
        return {"item_ids": tf.gather(module.ids, rows), "titles": tf.gather(module.titles, rows)}

    tf.saved_model.save(
        module,
        str(path),
        signatures={
            "serving_default": recommend,
            "user_interests": user_interests,
            "item_embeddings": item_embeddings,
            "item_titles": item_titles,
            "list_items": list_items,
        },
    )


def save_timed(path: Path) -> None:
    """Saves a model whose ``history_time`` must fit ``history``, as in a pushed bundle.

    ``history_time`` [B, T] has the shape of ``history`` [B, T] or is all zeros; ``k`` is
    one value or one per row. Outputs: ``seconds`` int64 [B], the sum of the times;
    ``k`` int32 [B].
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "history"),
            tf.TensorSpec([None, None], tf.int64, "history_time"),
            tf.TensorSpec(None, tf.int32, "k"),
        ]
    )
    def serving_default(
        history,
        history_time=tf.constant([[0]], tf.int64),  # noqa: B008
        k=tf.constant(10),  # noqa: B008
    ):
        batch = tf.shape(history)[0]
        is_unknown = tf.reduce_all(history_time == 0)
        fits = tf.reduce_all(tf.shape(history_time) == tf.shape(history))
        one_or_all = (tf.size(k) == 1) | (tf.size(k) == batch)
        with tf.control_dependencies(
            [
                tf.debugging.Assert(is_unknown | fits, ["history_time must fit history"]),
                tf.debugging.Assert(one_or_all, ["k must be one value, or one per row"]),
            ]
        ):
            return {
                "seconds": tf.broadcast_to(tf.reduce_sum(history_time, axis=1), [batch]),
                "k": tf.broadcast_to(tf.reshape(k, [-1]), [batch]),
            }

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": serving_default})


def save_constant(path: Path, item: str, *, is_broken: bool = False) -> None:
    """Saves a model that answers every ``history`` [B, T] with ``item`` alone.

    Output: ``item_ids`` string [B, 1]. With ``is_broken`` it refuses every request, as a
    graph with a defect does.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, "history")])
    def serving_default(history):
        with tf.control_dependencies([tf.debugging.Assert(not is_broken, ["a defect"])]):
            return {"item_ids": tf.fill([tf.shape(history)[0], 1], item)}

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": serving_default})


def push(saved: Path, base: Path, version: int) -> Path:
    """Copies a saved model to ``base/version`` as the Pusher does: atomically."""
    base.mkdir(parents=True, exist_ok=True)
    staging = base / f".staging-{version}"
    shutil.copytree(saved, staging)
    target = base / str(version)
    os.rename(staging, target)
    return target
