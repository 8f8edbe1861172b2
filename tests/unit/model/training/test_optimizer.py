"""Row-sparse Adam against Adam's formula on the touched rows."""

import numpy as np
import tensorflow as tf

from model.training.optimizer import LazyAdam


def _reference(value, gradients, rate=0.1, b1=0.9, b2=0.999, eps=1e-7):
    """Rows keep value and moments at steps without a gradient of theirs."""
    value = value.astype(np.float64).copy()
    m, v = np.zeros_like(value), np.zeros_like(value)
    for step, rows in enumerate(gradients, start=1):
        alpha = rate * np.sqrt(1 - b2**step) / (1 - b1**step)
        for row, g in rows.items():
            m[row] = b1 * m[row] + (1 - b1) * g
            v[row] = b2 * v[row] + (1 - b2) * g**2
            value[row] -= alpha * m[row] / (np.sqrt(v[row]) + eps)
    return value


def test_rows_follow_adam_and_others_stay():
    start = np.arange(8, dtype=np.float32).reshape(4, 2)
    table = tf.Variable(start)
    optimizer = LazyAdam(0.1, jit_compile=False)
    g = [np.array([1.0, -2.0]), np.array([0.5, 3.0]), np.array([-4.0, 0.25])]
    # Row 1 twice in step 1 (its gradients add up), row 2 never, row 3 in step 2 only.
    steps = [([1, 0, 1], [g[0], g[1], g[2]]), ([3], [g[0]]), ([1], [g[1]])]
    for rows, values in steps:
        slices = tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows), [4, 2])
        optimizer.apply_gradients([(slices, table)])
    expected = _reference(start, [{1: g[0] + g[2], 0: g[1]}, {3: g[0]}, {1: g[1]}])
    np.testing.assert_allclose(table, expected, rtol=1e-5)
    np.testing.assert_array_equal(table[2], start[2])


def test_dense_gradients_are_keras_adam():
    ours, theirs = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    lazy, adam = LazyAdam(0.1, jit_compile=False), tf.keras.optimizers.Adam(0.1)
    for gradient in ([1.0, -1.0], [0.5, 2.0]):
        lazy.apply_gradients([(tf.constant(gradient), ours)])
        adam.apply_gradients([(tf.constant(gradient), theirs)])
    np.testing.assert_array_equal(ours, theirs)


def test_moments_are_in_the_checkpoint(tmp_path):
    def make():
        table = tf.Variable(tf.ones([4, 2]))
        optimizer = LazyAdam(0.1, jit_compile=False)
        optimizer.build([table])
        return table, optimizer, tf.train.Checkpoint(table=table, optimizer=optimizer)

    def step(table, optimizer):
        slices = tf.IndexedSlices(tf.constant([[1.0, 2.0]]), tf.constant([1]), [4, 2])
        optimizer.apply_gradients([(slices, table)])

    table, optimizer, checkpoint = make()
    step(table, optimizer)
    path = checkpoint.save(str(tmp_path / "ckpt"))
    step(table, optimizer)
    table_2, optimizer_2, checkpoint_2 = make()
    checkpoint_2.restore(path).assert_consumed()
    step(table_2, optimizer_2)
    np.testing.assert_array_equal(table_2, table)
    assert int(optimizer_2.iterations) == 2
