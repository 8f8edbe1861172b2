"""Variables of the served graph that grow along their first dimension.

Their sizes are read without reading the variable: after a scatter, TensorFlow copies a variable for
every read of the whole.
"""

from typing import Any

import numpy as np
import tensorflow as tf


def growing_variable(value: np.ndarray, name: str, dtype: tf.DType | None = None) -> tf.Variable:
    """Returns a variable whose first dimension is open; a scalar stays one.

    Args:
      value: The first value.
      name: Name of the variable.
      dtype: Type of the variable; None takes that of ``value``. Texts need ``tf.string``.
    """
    shape = [None, *value.shape[1:]] if value.ndim else []
    return tf.Variable(
        tf.constant(value.tolist() if dtype else value, dtype),
        trainable=False,
        name=name,
        shape=shape,
    )


def num_rows(variable: tf.Variable) -> tf.Tensor:
    """Returns int32 [], the size of the first dimension."""
    return tf.raw_ops.VariableShape(input=variable.handle)[0]


def width(variable: tf.Variable) -> tf.Tensor:
    """Returns int32 [], the size of the last dimension."""
    return tf.raw_ops.VariableShape(input=variable.handle)[-1]


def pad_last(values: tf.Tensor, missing: tf.Tensor, padding: Any) -> tf.Tensor:
    """Appends ``missing`` times ``padding`` to the last dimension, if that is positive."""
    paddings = [[0, 0]] * (values.shape.rank - 1) + [[0, tf.maximum(missing, 0)]]
    return tf.pad(values, paddings, constant_values=padding)


def widen(variable: tf.Variable, columns: tf.Tensor, padding: Any) -> None:
    """Extends ``variable``, of rank 2, to ``columns`` columns if it has fewer."""
    missing = columns - width(variable)

    def extended() -> tf.Tensor:
        variable.assign(pad_last(variable.read_value(), missing, padding))
        return tf.constant(True)

    tf.cond(missing > 0, extended, lambda: tf.constant(False))


def grow(variable: tf.Variable, capacity: tf.Tensor) -> None:
    """Extends ``variable`` to ``capacity`` rows, int32 [], if it has fewer."""
    missing = capacity - num_rows(variable)

    def extended() -> tf.Tensor:
        value = variable.read_value()
        shape = tf.concat([[missing], tf.shape(value)[1:]], axis=0)
        filler = tf.fill(shape, "") if value.dtype == tf.string else tf.zeros(shape, value.dtype)
        variable.assign(tf.concat([value, filler], axis=0))
        return tf.constant(True)

    tf.cond(missing > 0, extended, lambda: tf.constant(False))
