"""A model and a training that are over in seconds."""

from model.config import ModelConfig, TrainingConfig

MODEL = ModelConfig(embedding_dim=8, num_interests=2, history_length=10, hidden_units=(16,))
TRAINING = TrainingConfig(
    num_negatives=20,
    batch_size=32,
    max_steps=60,
    eval_every_steps=20,
    checkpoint_every_steps=20,
    eval_cutoff=10,
    eval_exclude_history=False,
    learning_rate=0.01,
)
