"""Training steps as one graph, which runs many steps per call from the host."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from model.network.mind import MindModel


def make_run_steps(
    model: MindModel, optimizer: tf.keras.optimizers.Optimizer, jit_compile: bool = False
) -> Callable[[Any, tf.Tensor], tf.Tensor]:
    """Returns a graph function of (iterator, count) that runs ``count`` steps.

    The function returns the mean loss. It runs all steps inside one call, under the
    model's ``tf.distribute`` strategy.
    """
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    variables = model.trainable_variables

    # AutoGraph would search the layers and tf_keras' own code for Python control flow, which
    # takes longer than the tracing. None of that control flow depends on a tensor.
    @tf.function(jit_compile=jit_compile or None, autograph=False)
    def gradients_of(batch: Mapping[str, Any]) -> tuple[tf.Tensor, list[Any]]:
        with tf.GradientTape() as tape:
            # The gradients of the replicas are summed, so each replica divides by their number.
            loss = model.compute_loss(batch, training=True) / replicas
        return loss, tape.gradient(loss, variables)

    @tf.autograph.experimental.do_not_convert
    def step(batch: Mapping[str, Any]) -> tf.Tensor:
        loss, gradients = gradients_of(batch)
        used = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        optimizer.apply_gradients(used)
        return loss

    @tf.function
    def run_steps(iterator: Any, count: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(count):
            losses = strategy.run(step, args=(next(iterator),))
            total += strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)
        return total / tf.cast(count, tf.float32)

    return run_steps
