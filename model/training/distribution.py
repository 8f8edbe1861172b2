"""Which ``tf.distribute`` strategy a training runs under."""

import tensorflow as tf

from model.config import TrainingConfig


def make_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """Returns the strategy that ``config.distribution`` names.

    Build the model inside its ``scope()``; `model.training.loop.fit`
    finds the strategy on the model. ``batch_size`` is the global one. For
    ``multi_worker_mirrored`` every worker runs the same program with its own
    ``TF_CONFIG`` (Kubeflow's TFJob sets it).
    """
    if config.distribution == "mirrored":
        return tf.distribute.MirroredStrategy()
    if config.distribution == "multi_worker_mirrored":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Number of this process among the workers; 0 is the chief."""
    resolver = strategy.cluster_resolver
    return 0 if resolver is None else int(resolver.task_id or 0)
