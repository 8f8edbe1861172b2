"""Retrieval quality of a preset on an interaction data set.

    python benchmarks/quality.py --data DIR --protocol user --preset strong \
        --seeds 1,2,3 --output out.json

``DIR`` holds ``interactions.csv[.gz]`` (user_id, item_id, timestamp) and
optionally ``items.csv[.gz]`` and ``users.csv[.gz]``. Training selects on the
validation people; the printed figures are those of the test people, by full
ranking over all items, once with every person's history excluded from the
candidates and once included.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from benchmarks import protocols
from model.catalogue import Catalogue
from model.config import ModelConfig, TrainingConfig
from model.config_types import from_dict
from model.mind import MindModel
from model.presets import PRESETS
from model.training import Progress, evaluate, fit

CUTOFFS = (10, 20, 50)


def configs(
    preset: str, overrides: list[str], history_length: int, seed: int
) -> tuple[ModelConfig, TrainingConfig]:
    """The preset with ``model.key=value`` and ``training.key=value`` changes."""
    values = {part: dict(PRESETS[preset][part]) for part in ("model", "training")}
    values["model"]["history_length"] = history_length
    values["training"]["seed"] = seed
    for override in overrides:
        key, text = override.split("=", 1)
        part, name = key.split(".", 1)
        try:
            values[part][name] = json.loads(text)
        except json.JSONDecodeError:
            values[part][name] = text
    return from_dict(ModelConfig, values["model"]), from_dict(TrainingConfig, values["training"])


def train_and_evaluate(
    split: protocols.Split,
    catalogue: Catalogue,
    model_config: ModelConfig,
    training_config: TrainingConfig,
) -> dict[str, Any]:
    """Trains one model and evaluates it on validation and test people."""
    started = time.monotonic()
    mind = MindModel(model_config, training_config, catalogue, {})
    sequences = tf.data.Dataset.from_tensor_slices(
        {
            "sequence": tf.ragged.constant(split.train, dtype=tf.int64),
            "num_context": np.zeros(len(split.train), np.int64),
            "profile": {},
        }
    ).batch(4096)
    length = model_config.history_length
    with tempfile.TemporaryDirectory() as directory:
        result = fit(
            mind,
            sequences,
            protocols.validation_data(split.validation, length, {}),
            training_config,
            directory,
            on_progress=_print_progress,
        )
    test = protocols.validation_data(split.test, length, {})
    figures: dict[str, Any] = {}
    for name, exclude in (("excluded", True), ("included", False)):
        figures |= {f"{name}.{k}": v for k, v in evaluate(mind, test, CUTOFFS, exclude).items()}
    return figures | {
        "validation.recall": result.best_recall,
        "steps": result.steps,
        "best_step": result.best_step,
        "seconds": time.monotonic() - started,
        "examples_per_second": result.examples_per_second,
        "curve": [(h["step"], round(h["seconds"]), round(h["recall"], 5)) for h in result.history],
    }


def _print_progress(progress: Progress) -> None:
    recall = progress.validation_recall
    print(
        f"\rstep {progress.step}/{progress.max_steps}  loss {progress.loss:.3f}  "
        f"{progress.examples_per_second:,.0f} examples/s  validation recall "
        f"{'-' if recall is None else f'{recall:.4f}'}",
        end="" if sys.stderr.isatty() else "\n",
        file=sys.stderr,
    )


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=protocols.PROTOCOLS, default="user")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="strong")
    parser.add_argument("--seeds", default="1", help="comma-separated")
    parser.add_argument("--history-length", type=int, help="default: 20, or 50 for long histories")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    split = protocols.load_split(args.data, args.protocol)
    length = args.history_length or split.history_length()
    runs = []
    for seed in map(int, args.seeds.split(",")):
        model_config, training_config = configs(args.preset, args.overrides, length, seed)
        run = train_and_evaluate(
            split, Catalogue(split.train_counts()), model_config, training_config
        )
        runs.append(run)
        print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
