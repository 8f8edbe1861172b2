"""One process of a training through ``run_fn``; TF_CONFIG says which worker it is.

Prints as JSON what it exported and which directories it removed.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

import model  # noqa: F401  (selects Keras 2)
from contract.config_types import from_dict, to_dict
from model.config import ModelConfig, TrainingConfig
from model.tfx_functions import trainer
from model.tfx_functions.export import ExportedMind
from model.tfx_functions.preprocessing import PreprocessingConfig
from model.tfx_functions.training_setup import TrainerConfig


def fn_args(folder: Path, preprocessing: dict[str, Any], **training: object) -> SimpleNamespace:
    """What TFX hands to ``run_fn`` for the transformed examples in ``folder``."""
    config = TrainerConfig(
        model=ModelConfig(
            embedding_dim=8, num_interests=2, history_length=6, hidden_units=(8,)
        ),
        training=TrainingConfig(
            num_negatives=20, batch_size=32, max_steps=4, eval_every_steps=2,
            checkpoint_every_steps=2, eval_cutoff=10, eval_exclude_history=False, **training,
        ),
        preprocessing=from_dict(PreprocessingConfig, preprocessing),
        checkpoint_dir=str(folder / "checkpoints" / "run"),
        num_recommended=10,
        exclude_history=True,
        num_accelerators=0,
        source_digest="any",
    )  # fmt: skip
    examples = folder / "examples"
    return SimpleNamespace(
        train_files=[str(examples / f"Split-{name}" / "*") for name in ("train", "catalog")],
        eval_files=[str(examples / "Split-eval" / "*")],
        transform_output=str(folder / "transform"),
        serving_model_dir=str(folder / "export"),
        model_run_dir=str(folder / "model_run"),
        custom_config=to_dict(config),
    )


def main(folder: str, preprocessing: str, distribution: str) -> None:
    exported, removed = [], []
    save, rmtree = ExportedMind.save, tf.io.gfile.rmtree
    ExportedMind.save = lambda self, path: exported.append(path) or save(self, path)
    tf.io.gfile.rmtree = lambda path: removed.append(path) or rmtree(path)
    trainer.run_fn(fn_args(Path(folder), json.loads(preprocessing), distribution=distribution))
    print(json.dumps({"exported": exported, "removed": removed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
