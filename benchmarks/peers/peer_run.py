"""What the scripts of the trained peers share: arguments, timing, early stopping, output.

The module imports only NumPy, because it runs in the environments of the peers.
"""

import argparse
import json
import resource
import time

import numpy as np


def parser(description, batch_size, negatives):
    """Returns a parser of the arguments that all these scripts take.

    Args:
      description: Text for ``--help``.
      batch_size: Default batch size, which is that of the peer's own example.
      negatives: Default number of negatives.
    """
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--input", required=True)
    result.add_argument(
        "--output", required=True, help="path of the files to write, without suffix"
    )
    result.add_argument("--dim", type=int, default=64)
    result.add_argument("--interests", type=int, default=4)
    result.add_argument("--negatives", type=int, default=negatives)
    result.add_argument("--batch-size", type=int, default=batch_size)
    result.add_argument("--max-epochs", type=int, default=60)
    result.add_argument("--patience", type=int, default=5)
    result.add_argument(
        "--max-cpu-seconds",
        type=float,
        default=0.0,
        help="no epoch begins after this much training; 0 means no limit",
    )
    result.add_argument("--validation-people", type=int, default=4_000, help="maximum number")
    result.add_argument("--seed", type=int, default=1)
    result.add_argument(
        "--speed-seconds", type=int, default=0, help="only measure the speed, for so long"
    )
    return result


def whole_sequences(data):
    """Returns the arrays of a split with its flat sequences cut apart.

    Args:
      data: Arrays; ``NAME_items`` int [E] and ``NAME_offsets`` int [S + 1] hold S sequences.

    Returns:
      The arrays, with a list of S arrays under ``NAME`` in place of each such pair.
    """
    ends = "_offsets"
    names = [key.removesuffix(ends) for key in data if key.endswith(ends)]
    flat = {f"{name}{part}" for name in names for part in ("_items", ends)}
    return {key: value for key, value in data.items() if key not in flat} | {
        name: np.split(data[f"{name}_items"], data[f"{name}{ends}"][1:-1]) for name in names
    }


def train(args, data, run_epoch, vectors, examples):
    """Trains until validation recall stops rising, and writes vectors and figures.

    The vectors are those of the best epoch.

    Args:
      args: Arguments of ``parser``.
      data: The arrays of the split.
      run_epoch: Runs one epoch.
      vectors: Function of U histories that returns interests [U, K, d] and items [N + 1, d].
      examples: Number of targets from which an epoch learns.
    """
    step = -(-len(data["validation_targets"]) // args.validation_people)
    histories, excluded, targets = (
        data[f"validation_{name}"][::step] for name in ("history", "excluded", "targets")
    )
    best, best_epoch, train_seconds, cpu_seconds, curve = -1.0, 0, 0.0, 0.0, []
    for epoch in range(1, args.max_epochs + 1):
        wall, cpu = time.monotonic(), time.process_time()
        run_epoch()
        train_seconds += time.monotonic() - wall
        cpu_seconds += time.process_time() - cpu
        recall = recall_at_50(*vectors(histories), excluded, targets)
        curve.append({"epoch": epoch, "cpu_seconds": cpu_seconds, "recall": recall})
        print(epoch, round(train_seconds), round(recall, 4), flush=True)
        if recall > best:
            best, best_epoch = recall, epoch
            interests, items = vectors(data["test_history"])
            np.savez(args.output + ".npz", interests=interests, items=items)
        elif epoch - best_epoch >= args.patience:
            break
        if args.max_cpu_seconds and cpu_seconds >= args.max_cpu_seconds:
            break
    write(
        args,
        {
            "best_epoch": best_epoch,
            "validation.recall": best,
            "train_seconds": train_seconds,
            "cpu_seconds": cpu_seconds,
            "examples_per_cpu_second": examples * len(curve) / cpu_seconds,
            "curve": curve,
        },
    )


def measure_speed(args, step):
    """Writes the examples per CPU-second of training steps alone, after a warm-up.

    Args:
      args: Arguments of ``parser``.
      step: Runs one step with a batch of ``args.batch_size`` examples.
    """
    for _ in range(20):
        step()
    cpu, wall, steps = time.process_time(), time.monotonic(), 0
    while time.monotonic() - wall < args.speed_seconds:
        step()
        steps += 1
    rate = steps * args.batch_size / (time.process_time() - cpu)
    write(args, {"examples_per_cpu_second": rate})


def write(args, report):
    """Writes the figures of the peer and its peak memory."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with open(args.output + ".json", "w") as file:
        json.dump({**report, "peak_memory_gb": memory}, file)


def recall_at_50(interests, items, excluded, targets):
    """Returns the mean recall@50 over people, with the history excluded.

    Args:
      interests: [U, K, d].
      items: [N + 1, d]; row 0 is padding.
      excluded: int [U, X], the items of the history; 0 is padding.
      targets: int [U, M]; -1 is padding. Targets in the history do not count.
    """
    recalls = []
    for start in range(0, len(interests), 256):
        part = slice(start, start + 256)
        scores = (interests[part] @ items.T).max(axis=1)
        scores[:, 0] = -np.inf
        np.put_along_axis(scores, excluded[part], -np.inf, axis=1)
        top = np.argpartition(-scores, 50, axis=1)[:, :50]
        for row, wanted, shown in zip(top, targets[part], excluded[part], strict=True):
            wanted = set(wanted.tolist()) - {-1} - set(shown.tolist())
            if wanted:
                recalls.append(len(wanted & set(row.tolist())) / len(wanted))
    return float(np.mean(recalls))
