"""The model of the golden checkpoint; run this file to write a new one.

    python tests/golden/mind_model.py

Only do so when the architecture changes on purpose: the test is there to notice
that stored checkpoints no longer give the same vectors.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow as tf

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from model.catalogue import Catalogue
from model.config import ModelConfig, TrainingConfig
from model.network.mind import MindModel

DIRECTORY = Path(__file__).parent / "mind"
PROFILE_SIZES = {"age": 3}
HISTORY = np.array([[1, 2, 3, 4, 5, 6], [7, 0, 0, 0, 0, 0], [3, 3, 1, 9, 0, 0], [0] * 6], np.int32)
PROFILE = {"age": np.array([0, 1, 2, 1], np.int32)}


def make_model() -> MindModel:
    """A small model with every part of the `strong` form, untrained."""
    config = ModelConfig(
        embedding_dim=8, num_interests=3, history_length=6, hidden_units=(16,),
        extractor="capsule", routing_iterations=3, routing_init_std=1.0, recency_position=True,
        residual=True, normalize=True,
    )  # fmt: skip
    brand = np.array([[0], [1], [2], [1], [2], [1], [2], [1], [2], [0]], np.int32)
    catalogue = Catalogue(np.array([0, 9, 7, 5, 4, 3, 2, 1, 0, 0]), {"brand": brand}, {"brand": 3})
    return MindModel(config, TrainingConfig(num_negatives=5), catalogue, PROFILE_SIZES)


def outputs(mind: MindModel) -> dict[str, np.ndarray]:
    """What must stay the same."""
    interests, mask = mind.user_interests(HISTORY, PROFILE)
    return {
        "interests": interests.numpy(),
        "mask": mask.numpy(),
        "items": mind.item_embeddings().numpy(),
    }


def main() -> None:
    """Trains a few steps and writes checkpoint and outputs."""
    mind = make_model()
    optimizer = tf.keras.optimizers.Adam(0.05)
    batch = {
        "history": HISTORY[:3],
        "target": tf.constant([4, 5, 6]),
        "profile": {"age": PROFILE["age"][:3]},
    }
    for _ in range(20):
        with tf.GradientTape() as tape:
            loss = mind.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, mind.trainable_variables)
        optimizer.apply_gradients(zip(gradients, mind.trainable_variables, strict=True))
    tf.train.Checkpoint(model=mind).write(str(DIRECTORY / "checkpoint"))
    np.savez(DIRECTORY / "expected.npz", **outputs(mind))


if __name__ == "__main__":
    main()
