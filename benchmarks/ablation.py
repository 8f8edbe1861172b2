"""Measures the contribution of each ingredient of the ``strong`` preset, on validation people.

    python benchmarks/ablation.py --data DIR --output ablation.json

Each row changes one setting of the preset; the figure is Recall@50 of the validation people at the
best step, history excluded. Rows that are already in ``--output`` are not run again, so the program
can be stopped and resumed.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tensorflow as tf

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from benchmarks import protocols, quality
from model.catalogue import Catalogue

VARIANTS: dict[str, list[str]] = {
    "strong": [],
    "without normalisation": ["model.normalize=false", "training.temperature=1.0"],
    "temperature 0.03": ["training.temperature=0.03"],
    "temperature 0.15": ["training.temperature=0.15"],
    "uniform negatives": ["training.negatives=uniform"],
    "in-batch negatives": ["training.negatives=in_batch"],
    "mixed negatives": ["training.negatives=mixed"],
    "256 negatives": ["training.num_negatives=256"],
    "without logQ": ["training.logq_correction=false"],
    "attention p = 1": ["training.attention_power=1.0"],
    "without recency": ["model.recency_position=false"],
    "random S": ["model.mapping_init=glorot"],
    "without residual": ["model.residual=false"],
    "without dropout": ["model.dropout=0.0"],
    "K = 1": ["model.num_interests=1"],
    "K = 2": ["model.num_interests=2"],
    "K = 8": ["model.num_interests=8"],
    "fixed K": ["model.adaptive_interests=false"],
    "routing by cosine x 4": ["model.routing_cosine_scale=4.0"],
    "routing by cosine x 8": ["model.routing_cosine_scale=8.0"],
    "shared logits": ["model.routing=shared_logits"],
    "self-attentive": ["model.extractor=self_attentive"],
    "average": ["model.extractor=average"],
    "one target per person and epoch": ["training.targets_per_sequence=1"],
}


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=protocols.PROTOCOLS, default="user")
    parser.add_argument("--variants", nargs="*", choices=sorted(VARIANTS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    split = protocols.load_split(args.data, args.protocol)
    catalogue = Catalogue(split.train_counts())
    rows = json.loads(args.output.read_text()) if args.output.exists() else {}
    for name in args.variants or VARIANTS:
        if name in rows:
            continue
        model_config, training_config = quality.configs(
            "strong", args.overrides + VARIANTS[name], split.history_length(), args.seed
        )
        run, _ = quality.train_and_evaluate(
            split, catalogue, protocols.Profiles(), model_config, training_config
        )
        rows[name] = {
            key: run[key]
            for key in ("validation.recall", "best_step", "seconds", "excluded.interest_cosine")
        }
        args.output.write_text(json.dumps(rows, indent=2))
        print(f"{name:34} {rows[name]['validation.recall']:.4f}", flush=True)


if __name__ == "__main__":
    main()
