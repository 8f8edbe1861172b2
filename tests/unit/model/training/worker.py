"""One worker of the distribution test; TF_CONFIG says which."""

import sys
from typing import Any

import numpy as np
import tensorflow as tf

import model  # noqa: F401  (selects Keras 2)
from model.config import EncoderConfig, ModelConfig, TrainingConfig
from model.network.mind import MindModel
from model.training.distribution import make_strategy
from model.training.loop import fit
from tests.unit.model.conftest import make_toy_data

NETWORKS: dict[str, Any] = {
    "self_attentive": {"extractor": "self_attentive"},
    "encoder": {"encoder": EncoderConfig(layers=1, dropout=0.0)},
}


def main(distribution: str, directory: str, output: str, network: str) -> None:
    if distribution == "mirrored":
        cpus = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    # No draw differs between replicas: no dropout, no routing noise, all items
    # as negatives.
    model_config = ModelConfig(
        embedding_dim=8, num_interests=2, history_length=10, hidden_units=(16,), dropout=0.0,
        **NETWORKS[network],
    )  # fmt: skip
    config = TrainingConfig(
        num_negatives=100, batch_size=32, max_steps=30, eval_every_steps=15, learning_rate=0.01,
        checkpoint_every_steps=15, distribution=distribution, eval_exclude_history=False,
    )  # fmt: skip
    data = make_toy_data(people=200)
    strategy = make_strategy(config)
    with strategy.scope():
        mind = MindModel(model_config, config, data.catalogue)
    result = fit(mind, data.dataset(), data.validation(10), config, directory)
    weights = {f"w{i}": w.numpy() for i, w in enumerate(mind.trainable_variables)}
    np.savez(output, replicas=strategy.num_replicas_in_sync, recall=result.best_recall, **weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
