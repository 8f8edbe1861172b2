"""The SavedModels that the conformance tests ask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.conformance.cases import LABEL

# Types by the names of the signatures that give them back as they are.
ECHOED = {
    dtype.name: dtype
    for dtype in (
        *(tf.float32, tf.float64, tf.half, tf.int8, tf.int16, tf.int32, tf.int64),
        *(tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string, tf.complex64),
    )
}


def save_half_plus_two(path: Path) -> None:
    """Saves ``y = x / 2 + 2``; its placeholder has the shape [?,1], as in TF Serving's own."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 0.5 + 2.0}

    tf.saved_model.save(tf.Module(), str(path), signatures={"serving_default": serving_default})


def save_zoo(path: Path) -> None:
    """Saves one signature for each thing that a request can meet.

    - ``serving_default`` and the type names of ``ECHOED``: x of any shape -> y.
    - ``two``: number int32, text string of any shape -> both.
    - ``defaults``: x [?], plus (default 2), times (default 1) -> y.
    - ``matrix``: x [?,2] -> y, by a product that takes matrices only.
    - ``length``: strings x -> the bytes of each; ``bytes``: x -> image_bytes, plain;
      ``one_bytes``: x -> y_bytes.
    - ``sum``: x -> y without a shape; ``nothing``: x [?] -> y of no rows; ``uneven``: x [?] ->
      a, and b with one row more; ``constant``: no input.
    - ``many``: x -> the outputs of an example in json_tensor_test.cc.
    """
    module = tf.Module()

    def function(
        body: Callable[..., dict[str, Any]], **specs: tuple[Any, tf.DType]
    ) -> tf.types.experimental.GenericFunction:
        return tf.function(
            body, input_signature=[tf.TensorSpec(*s, name) for name, s in specs.items()]
        )

    def defaults(
        x: tf.Tensor,
        plus: tf.Tensor = tf.constant(2.0),  # noqa: B008
        times: tf.Tensor = tf.constant(1.0),  # noqa: B008
    ) -> dict[str, tf.Tensor]:
        return {"y": x * times + plus}

    def many(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "int_tensor": tf.constant([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]) + tf.cast(x, tf.int32),
            "str_tensor": tf.constant([["foo", "bar"], ["baz", "bat"]]),
            "float_tensor": tf.constant([[1.0], [2.0]]),
            "double_scalar_tensor": tf.constant([8.0, 9.0], tf.float64),
            "str_tensor_bytes": tf.constant([["hello", "world"], ["tf", "serving"]]),
        }

    any_float = (None, tf.float32)
    tf.saved_model.save(
        module,
        str(path),
        signatures={
            "serving_default": function(lambda x: {"y": tf.identity(x)}, x=any_float),
            **{
                name: function(lambda x: {"y": tf.identity(x)}, x=(None, dtype))
                for name, dtype in ECHOED.items()
            },
            "two": function(
                lambda number, text: {"number": tf.identity(number), "text": tf.identity(text)},
                number=(None, tf.int32),
                text=(None, tf.string),
            ),
            "defaults": function(
                defaults, x=([None], tf.float32), plus=([], tf.float32), times=([], tf.float32)
            ),
            "matrix": function(
                lambda x: {"y": tf.raw_ops.MatMul(a=x, b=tf.ones([2, 1]))},
                x=([None, 2], tf.float32),
            ),
            "length": function(lambda x: {"y": tf.strings.length(x)}, x=(None, tf.string)),
            "bytes": function(
                lambda x: {"image_bytes": tf.identity(x), "plain": tf.identity(x)},
                x=(None, tf.string),
            ),
            "one_bytes": function(lambda x: {"y_bytes": tf.identity(x)}, x=(None, tf.string)),
            "sum": function(lambda x: {"y": tf.reduce_sum(x)}, x=any_float),
            "uneven": function(
                lambda x: {"a": tf.identity(x), "b": tf.concat([x, [0.0]], 0)},
                x=([None], tf.float32),
            ),
            "nothing": function(lambda x: {"y": x[:0]}, x=([None], tf.float32)),
            "constant": function(lambda: {"y": tf.constant(5.0)}),
            "many": function(many, x=([], tf.float32)),
        },
    )


def model_config(base: Path, model: str, labelled: int | None = None) -> str:
    """Configuration of a model with all its versions, one of them labelled."""
    label = f'version_labels {{ key: "{LABEL}" value: {labelled} }}' if labelled else ""
    return (
        f'config {{ name: "{model}" base_path: "{base}/{model}" model_platform: "tensorflow"'
        f" model_version_policy {{ all {{}} }} {label} }}"
    )
