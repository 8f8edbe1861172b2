"""Measures training speed: examples per CPU-second, growth with the catalogue, memory.

    python benchmarks/training_speed.py --peers deepmatch --output speed.json

Every measurement runs in its own process with one thread. ``--data DIR`` reads the
histories of a data set in the format of ``benchmarks/quality.py``. Without it they
are synthetic, with about as many items as Amazon Beauty and a mean length of half a
window; the growth with the catalogue is always measured on synthetic ones. Our time
includes cutting the windows; peers are timed on their training step alone. A peer
whose batches share no negatives keeps the few that it draws for each example.

Peers that read whole sequences (``sasrec``, ``esasrec``) are compared with the encoder,
which also reads them. All people have 201 events, so that nothing is padding. The unit
is targets per CPU-second, including the time to make the batches, and each model
has the batch size and the number of negatives of its recipe.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from benchmarks import peers, protocols
from model.catalogue import Catalogue
from model.config import EncoderConfig, ModelConfig, TrainingConfig
from model.network.mind import MindModel
from model.training.input_pipeline import training_batches
from model.training.optimizer import LazyAdam
from model.training.step import make_run_steps

_DIM, _INTERESTS = 64, 4
_LENGTHS = (20, 50)
_SMALL_CATALOGUE, _LARGE_CATALOGUE = 10_000, 1_000_000
_PEOPLE, _MEAN_LENGTH, _NUM_ITEMS = 20_000, 9, 12_000
# For the comparison with peers that read whole sequences. With 201 events each, 5,000 people
# have every one of a million items. Batch size and negatives are those of docs/experiments.md,
# "Long histories".
_SEQUENCES, _SEQUENCE_TARGETS = 5_000, 200
_LAYERS, _HEADS = 2, 2
_SEQUENCE_BATCH, _SEQUENCE_NEGATIVES = 64, 1024
_SEQUENCE_PEERS = ("sasrec", "esasrec")
_WINDOW_PEERS = tuple(name for name in peers.TRAINERS if name not in peers.OF_SEQUENCES)
_PEERS = _WINDOW_PEERS + _SEQUENCE_PEERS


def synthetic_split(num_items: int, mean_length: int, seed: int = 0) -> protocols.Split:
    """Returns people with geometric sequence lengths and items with Zipf-like frequencies.

    Args:
      num_items: Number of items, N.
      mean_length: Mean number of events of a person; the smallest is 5.
      seed: Seed of the generator.
    """
    rng = np.random.default_rng(seed)
    lengths = 5 + rng.geometric(1 / max(mean_length - 4, 1), _PEOPLE) - 1
    # Ranks are log-uniform; items are then indexed by their counts, as in the vocabulary.
    flat = np.exp(rng.random(lengths.sum()) * np.log(num_items)).astype(np.int64)
    counts = np.bincount(flat, minlength=num_items + 1)[1:]
    index = np.empty(num_items + 1, np.int64)
    index[np.argsort(-counts, kind="stable") + 1] = np.arange(1, num_items + 1)
    sequences = [s.tolist() for s in np.split(index[flat], np.cumsum(lengths)[:-1])]
    return _without_test(sequences, num_items)


def full_sequences(num_items: int, seed: int = 0) -> protocols.Split:
    """Returns people with as many events as the encoder reads, and one more as the last target.

    Every item occurs about equally often.
    """
    rng = np.random.default_rng(seed)
    shape = (_SEQUENCES, _SEQUENCE_TARGETS + 1)
    items = rng.permutation(np.resize(np.arange(1, num_items + 1), shape).ravel())
    return _without_test(items.reshape(shape).tolist(), num_items)


def _without_test(sequences: list[list[int]], num_items: int) -> protocols.Split:
    never = [[0] * len(s) for s in sequences]
    nobody = protocols.People([0], [sequences[0]], [[1]], never[:1])
    return protocols.Split(list(range(num_items)), [], sequences, nobody, nobody, never)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Measures the speed of our training loop in this process, including making the batches.

    Returns:
      ``examples_per_cpu_second`` (targets, if whole sequences are read),
      ``step_cpu_milliseconds`` and ``peak_memory_gb``.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    split = load(args, args.num_items)
    counts = split.train_counts()
    if args.num_items > _NUM_ITEMS:
        # Every item counts as seen, or the sampler would leave most of them out.
        counts[1:] = np.maximum(counts[1:], 1)
    encoder = EncoderConfig(layers=_LAYERS, heads=_HEADS) if args.sequences else None
    model_config = ModelConfig(
        embedding_dim=_DIM,
        num_interests=1 if args.sequences else _INTERESTS,
        history_length=args.length,
        encoder=encoder,
    )
    config = TrainingConfig(num_negatives=args.negatives, batch_size=args.batch_size)
    mind = MindModel(model_config, config, Catalogue(counts))
    optimizer = LazyAdam(config.learning_rate, jit_compile=False)
    optimizer.build(mind.trainable_variables)
    sequences = tf.data.Dataset.from_tensors(
        {
            "sequence": tf.ragged.constant(split.train, dtype=tf.int64),
            "num_context": np.zeros(len(split.train), np.int64),
            "profile": {},
        }
    )
    batches = training_batches(
        sequences,
        args.length,
        config.batch_size,
        config.seed,
        every_position=args.sequences,
    )
    iterator = iter(batches)
    run_steps = make_run_steps(mind, optimizer)
    at_once = tf.constant(5 if args.sequences else 20)
    run_steps(iterator, at_once)
    cpu, wall, steps = time.process_time(), time.monotonic(), 0
    while time.monotonic() - wall < args.seconds:
        run_steps(iterator, at_once)
        steps += int(at_once)
    cpu = time.process_time() - cpu
    targets = _SEQUENCE_TARGETS if args.sequences else 1  # of each example
    return {
        "examples_per_cpu_second": steps * config.batch_size * targets / cpu,
        "step_cpu_milliseconds": 1000 * cpu / steps,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def load(args: argparse.Namespace, num_items: int) -> protocols.Split:
    """Returns the split to train on: whole sequences, the data set, or synthetic histories."""
    if args.sequences:
        return full_sequences(num_items)
    if args.data:
        return protocols.load_split(args.data, "user")
    return synthetic_split(num_items, max(_MEAN_LENGTH, args.length // 2))


def in_process(args: argparse.Namespace, length: int, num_items: int) -> dict[str, float]:
    """Runs ``measure`` in a new process, so that its peak memory is measured alone."""
    command = [
        *(sys.executable, __file__, "--measure", "--length", str(length)),
        *("--num-items", str(num_items), "--seconds", str(args.seconds)),
        *("--negatives", str(args.negatives), "--batch-size", str(args.batch_size)),
        *(("--data", str(args.data)) if args.data else ()),
        *(("--sequences",) if args.sequences else ()),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_peer(args: argparse.Namespace, name: str, length: int) -> dict[str, float]:
    """Measures the training step of a peer that reads windows, in the peer's environment."""
    args.length = length
    arguments = ["--interests", str(_INTERESTS), "--batch-size", str(args.batch_size)]
    if name not in peers.OWN_NEGATIVES:
        arguments += ["--negatives", str(args.negatives)]
    return _measure_script(args, name, length, _NUM_ITEMS, arguments)


def measure_sequence_peer(args: argparse.Namespace, name: str, num_items: int) -> dict[str, float]:
    """Measures the training of a peer that reads whole sequences, in the peer's environment."""
    arguments = ["--layers", str(_LAYERS), "--heads", str(_HEADS)]
    return _measure_script(args, name, _SEQUENCE_TARGETS, num_items, arguments)


def _measure_script(
    args: argparse.Namespace, name: str, length: int, num_items: int, arguments: list[str]
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        data, output = Path(directory) / "split.npz", Path(directory) / "peer"
        write = peers.write_sequences if name in peers.OF_SEQUENCES else peers.write_split
        write(load(args, num_items), length, data)
        shared = ["--input", str(data), "--output", str(output), "--dim", str(_DIM)]
        peers.run(name, [*shared, *arguments, "--speed-seconds", str(args.seconds)])
        return json.loads(output.with_suffix(".json").read_text())


def compare_windows(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Compares our training on windows with that of peers, and our step for two catalogue sizes."""
    report: dict[str, Any] = {"speed": {}, "negatives": args.negatives}
    for length in _LENGTHS:
        rows = {"ours": in_process(args, length, _NUM_ITEMS)}
        rows |= {name: measure_peer(args, name, length) for name in names}
        report["speed"][f"length_{length}"] = rows
        _print_rows(f"L={length}", "examples", rows)
    args.data = None
    growth = {n: in_process(args, 20, n) for n in (_SMALL_CATALOGUE, _LARGE_CATALOGUE)}
    small, large = (growth[n]["step_cpu_milliseconds"] for n in growth)
    report["catalogue"] = {str(n): row for n, row in growth.items()}
    report["catalogue_step_ratio"] = large / small
    print(f"step with 10 k items {small:.1f} ms, with 1 M {large:.1f} ms: {large / small:.2f} x")
    return report


def compare_sequences(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Compares our encoder with peers that read whole sequences, for two catalogue sizes."""
    args.sequences = True
    args.batch_size, args.negatives = _SEQUENCE_BATCH, _SEQUENCE_NEGATIVES
    report = {}
    for num_items in (_SMALL_CATALOGUE, _LARGE_CATALOGUE):
        rows = {"ours": in_process(args, _SEQUENCE_TARGETS, num_items)}
        rows |= {name: measure_sequence_peer(args, name, num_items) for name in names}
        report[f"items_{num_items}"] = rows
        _print_rows(f"L={_SEQUENCE_TARGETS}, {num_items:,} items", "targets", rows)
    return report


def _print_rows(title: str, unit: str, rows: dict[str, dict[str, float]]) -> None:
    for name, row in rows.items():
        print(
            f"{title:6} {name:12} {row['examples_per_cpu_second']:10,.0f} {unit} per CPU-second "
            f"{row['peak_memory_gb']:6.2f} GB",
            flush=True,
        )


def main() -> None:
    """Runs the comparisons or, with ``--measure``, one measurement of our training."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--negatives", type=int, default=1280)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--peers", nargs="*", default=[], choices=_PEERS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sequences", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=20, help=argparse.SUPPRESS)
    parser.add_argument("--num-items", type=int, default=_NUM_ITEMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    of_windows = [name for name in args.peers if name in _WINDOW_PEERS]
    of_sequences = [name for name in args.peers if name in _SEQUENCE_PEERS]
    report: dict[str, Any] = {}
    if of_windows or not of_sequences:
        report |= compare_windows(args, of_windows)
    if of_sequences:
        report["sequences"] = compare_sequences(args, of_sequences)
    if args.output:
        args.output.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
