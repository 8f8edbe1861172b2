"""Measures the retrieval quality of a preset on an interaction data set.

    python benchmarks/quality.py --data DIR --protocol user --preset strong \
        --seeds 1,2,3 --output out.json

``DIR`` holds ``interactions.csv[.gz]`` (user_id, item_id, timestamp) and
optionally ``items.csv[.gz]`` and ``users.csv[.gz]``. Training keeps the step with
the best recall on the validation people. The printed figures are those of the
test people by a full ranking of all items, once with each person's history
excluded from the candidates and once with it included.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from benchmarks import baselines, peers, protocols
from contract.config_types import from_dict
from contract.metric_names import CUTOFF_QUANTITIES, NDCG, metric_name
from model.catalogue import Catalogue
from model.config import ModelConfig, TrainingConfig
from model.metrics import per_person, quantity_names
from model.network.mind import MindModel
from model.paired_test import paired_difference
from model.presets import PRESETS
from model.training.loop import fit
from model.training.results import Progress
from model.training.validation import evaluate, person_ranks

CUTOFFS = (10, 20, 50)


def configs(
    preset: str, overrides: list[str], history_length: int, seed: int
) -> tuple[ModelConfig, TrainingConfig]:
    """Returns the configurations of a preset with changes.

    Args:
      preset: Name of the preset.
      overrides: Changes, each ``model.KEY=VALUE`` or ``training.KEY=VALUE``. A value that is not
        JSON is text.
      history_length: Number of items that the model reads.
      seed: Seed of the training.

    Raises:
      ValueError: if a key or a value is not allowed.
    """
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
    profiles: protocols.Profiles,
    model_config: ModelConfig,
    training_config: TrainingConfig,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Trains one model with the validation people and evaluates it on the test people.

    Returns:
      The figures, and the ranks of the test people's targets as ``baselines.evaluate`` returns
      them.
    """
    started = time.monotonic()
    cpu_started = time.process_time()
    cpu_seconds: dict[int, float] = {}

    def on_progress(progress: Progress) -> None:
        cpu_seconds[progress.step] = time.process_time() - cpu_started
        _print_progress(progress)

    mind = MindModel(model_config, training_config, catalogue, profiles.vocab_sizes)
    rows = {
        "sequence": tf.ragged.constant(split.train, dtype=tf.int64),
        "num_context": np.zeros(len(split.train), np.int64),
        "profile": profiles.of(split.train_users),
    }
    if model_config.time_gap:
        rows["sequence_time"] = tf.ragged.constant(split.train_times, dtype=tf.int64)
    sequences = tf.data.Dataset.from_tensors(rows)
    length = model_config.history_length
    with tempfile.TemporaryDirectory() as directory:
        result = fit(
            mind,
            sequences,
            protocols.validation_data(split.validation, length, profiles),
            training_config,
            directory,
            on_progress=on_progress,
        )
    test = protocols.validation_data(split.test, length, profiles)
    figures: dict[str, Any] = {}
    ranks = {}
    for name, exclude in (("excluded", True), ("included", False)):
        figures |= {f"{name}.{k}": v for k, v in evaluate(mind, test, CUTOFFS, exclude).items()}
        ranks[name] = person_ranks(mind, test, exclude)
    figures |= {
        "validation.recall": result.best_recall,
        "steps": result.steps,
        "best_step": result.best_step,
        "seconds": time.monotonic() - started,
        "examples_per_second": result.examples_per_second,
        # CPU time of this process since the call: training, input pipeline and validation.
        "curve": [
            {"step": h["step"], "cpu_seconds": cpu_seconds[int(h["step"])], "recall": h["recall"]}
            for h in result.history
        ],
    }
    return figures, ranks


def print_paired(name: str, ranks: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Prints how far a model's NDCG is above that of a baseline for the same people.

    Args:
      name: Name of the baseline.
      ranks: The model's ranks of every person's targets, int [U, M], by ``excluded`` and
        ``included``.
      theirs: The ranks of the baseline in the same form.
    """
    for kind, own in ranks.items():
        column = quantity_names(CUTOFFS).index(metric_name(NDCG, CUTOFFS[-1]))
        pairs = [per_person(some, CUTOFFS)[:, column] for some in (own, theirs[kind])]
        ours, other = (np.stack([values, np.ones_like(values)]) for values in pairs)
        found = paired_difference(ours, other)
        print(
            f"NDCG@{CUTOFFS[-1]} above {name}, history {kind}: {found.value:+.4f}, with 95 % "
            f"confidence {found.low:+.4f} to {found.high:+.4f} ({found.people} people)"
        )


def _print_progress(progress: Progress) -> None:
    recall = progress.validation_recall
    print(
        f"\rstep {progress.step}/{progress.max_steps}  loss {progress.loss:.3f}  "
        f"{progress.examples_per_second:,.0f} examples/s  validation recall "
        f"{'-' if recall is None else f'{recall:.4f}'}",
        end="" if sys.stderr.isatty() else "\n",
        file=sys.stderr,
    )


def summarise(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the mean and the standard deviation (``KEY.std``) of each number over the runs."""
    summary: dict[str, float] = {}
    for key, value in runs[0].items():
        if isinstance(value, int | float):
            values = [run[key] for run in runs]
            summary[key] = float(np.mean(values))
            summary[f"{key}.std"] = float(np.std(values))
    return summary


def cpu_seconds_to(recall: float, curve: list[dict[str, float]]) -> float | None:
    """Returns the CPU-seconds until validation recall reached a value, None if it never did."""
    return next((point["cpu_seconds"] for point in curve if point["recall"] >= recall), None)


def print_time_to_recall(name: str, peer: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Prints after how many CPU-seconds each run and the peer reached the peer's best recall.

    Args:
      name: Name of the peer.
      peer: Figures of the peer, of which ``validation.recall`` is to be reached.
      runs: Figures of our runs. Each gets ``cpu_seconds_to_NAME``, None if it never did.
    """
    best = peer["validation.recall"]
    theirs = peer["curve"][peer["best_epoch"] - 1]["cpu_seconds"]
    for run in runs:
        ours = run[f"cpu_seconds_to_{name}"] = cpu_seconds_to(best, run["curve"])
        reached = "never" if ours is None else f"{ours:.0f}, {ours / theirs:.2f} times as many"
        print(
            f"CPU-seconds to the best validation recall of {name}, {best:.4f}: {name} "
            f"{theirs:.0f} (training only, which ended after {peer['cpu_seconds']:.0f}), seed "
            f"{run['seed']} {reached}"
        )


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """Prints the metrics of each method in one line."""
    columns = [
        f"{kind}.{metric}@{k}"
        for kind in ("excluded", "included")
        for metric in CUTOFF_QUANTITIES
        for k in CUTOFFS
    ]
    print(" " * 12 + " ".join(f"{c.replace('cluded.', '.'):>14}" for c in columns))
    for name, row in rows.items():
        print(f"{name:12}" + " ".join(f"{row[c]:14.4f}" for c in columns))


def main() -> None:
    """Trains, evaluates and compares as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=protocols.PROTOCOLS, default="user")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="strong")
    parser.add_argument("--seeds", default="1", help="comma-separated")
    parser.add_argument("--history-length", type=int, help="default: 20, or 50 for long histories")
    parser.add_argument("--side-features", action="store_true", help="use items.csv and users.csv")
    parser.add_argument(
        "--cold-share",
        type=float,
        default=0.0,
        help="hold this share of the items out of training; the targets are those items only",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the preset, e.g. model.dropout=0.1 or training.temperature=0.1",
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="also evaluate popularity, personal frequency and item-kNN",
    )
    parser.add_argument(
        "--peer",
        nargs="*",
        default=[],
        choices=sorted(peers.TRAINERS),
        help="also train these public implementations, one after another",
    )
    parser.add_argument(
        "--peer-args",
        default="",
        help="arguments for the peers' scripts, e.g. '--max-epochs 20'; see their --help",
    )
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    split = protocols.load_split(args.data, args.protocol)
    if args.cold_share:
        split = protocols.hold_items_out(split, args.cold_share)
    length = args.history_length or split.history_length()
    if args.side_features:
        catalogue = protocols.load_side_features(args.data, split)
        profiles = protocols.load_profiles(args.data, split)
    else:
        catalogue, profiles = Catalogue(split.train_counts()), protocols.Profiles()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    runs = []
    for seed in seeds:
        model_config, training_config = configs(args.preset, args.overrides, length, seed)
        run, ranks = train_and_evaluate(split, catalogue, profiles, model_config, training_config)
        runs.append({"seed": seed} | run)
        print(json.dumps(runs[-1]), flush=True)
    report: dict[str, Any] = {
        "data": args.data.name,
        "protocol": args.protocol,
        "preset": args.preset,
        "overrides": args.overrides,
        **summarise(runs),
        # The peak of the whole process, which is that of the largest run.
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "runs": runs,
        "seeds": seeds,
    }
    table = {args.preset: report}
    if args.baselines:
        for scorer in (baselines.popularity, baselines.personal_frequency, baselines.item_knn):
            name = scorer.__name__
            table[name], theirs = baselines.evaluate(scorer(split), split.test, CUTOFFS)
            print_paired(name, ranks, theirs)  # the ranks of the last seed
    for name in args.peer:
        table[name] = peers.evaluate(name, split, length, CUTOFFS, args.peer_args.split())
        print_time_to_recall(name, table[name], runs)
    report["methods"] = {name: row for name, row in table.items() if row is not report}
    print_table(table)
    if args.output:
        args.output.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
