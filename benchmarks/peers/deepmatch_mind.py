"""DeepMatch 0.3.2's MIND on a split that ``benchmarks/quality.py`` wrote.

Runs in an environment of its own (see ``benchmarks/peers/__init__.py``) and so
imports nothing of this project. Reads an .npz with padded histories, writes an
.npz with the vectors of the best epoch and a .json with times.

Configuration: its example's (Adam, frequency sampler), with the dimension,
interests, negatives and early stopping of the comparison.
"""

import argparse
import json
import os
import time
from collections import Counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

tf.compat.v1.disable_eager_execution()  # as its examples do
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

from deepctr.feature_column import SparseFeat, VarLenSparseFeat
from deepmatch.models import MIND
from deepmatch.utils import NegativeSampler, sampledsoftmaxloss
from peer_results import memory, recall_at_50
from tensorflow.keras.models import Model


def main():
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True, help="without ending")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--interests", type=int, default=4)
    parser.add_argument("--power", type=int, default=100)
    parser.add_argument("--negatives", type=int, default=1280)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--max-epochs", type=int, default=60)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed-seconds", type=int, default=0, help="only measure speed")
    args = parser.parse_args()
    np.random.seed(args.seed)
    tf.compat.v1.set_random_seed(args.seed)
    data = dict(np.load(args.input))
    history, target = data["train_history"], data["train_target"]
    num_rows, length = int(data["num_items"]) + 1, history.shape[1]
    counts = Counter(target.tolist())
    user_columns = [
        VarLenSparseFeat(
            SparseFeat("hist_item", num_rows, embedding_dim=args.dim, embedding_name="item"),
            length,
            "mean",
            "hist_len",
        )
    ]
    item_columns = [SparseFeat("item", num_rows, embedding_dim=args.dim)]
    sampler = NegativeSampler(
        "frequency",
        num_sampled=args.negatives,
        item_name="item",
        item_count=[counts.get(i, 0) for i in range(num_rows)],
    )
    model = MIND(
        user_columns,
        item_columns,
        k_max=args.interests,
        p=args.power,
        user_dnn_hidden_units=(args.dim, args.dim),
        sampler_config=sampler,
        seed=args.seed,
    )
    model.compile(optimizer="adam", loss=sampledsoftmaxloss)
    user_model = Model(inputs=model.user_input, outputs=model.user_embedding)
    item_model = Model(inputs=model.item_input, outputs=model.item_embedding)

    def inputs(rows):
        return {"hist_item": rows, "hist_len": (rows > 0).sum(axis=1)}

    def users(rows):
        return user_model.predict(inputs(rows), batch_size=2048, verbose=0)

    def items():
        return item_model.predict({"item": np.arange(num_rows)}, batch_size=2**14, verbose=0)

    features = {**inputs(history), "item": target}
    zeros = np.zeros(len(target))

    if args.speed_seconds:
        speed(model, features, zeros, args)
        return
    best, best_epoch, train_seconds, cpu_seconds, curve = -1.0, 0, 0.0, 0.0, []
    for epoch in range(1, args.max_epochs + 1):
        wall, cpu = time.monotonic(), time.process_time()
        model.fit(features, zeros, batch_size=args.batch_size, epochs=1, verbose=0)
        train_seconds += time.monotonic() - wall
        cpu_seconds += time.process_time() - cpu
        item_vectors = items()
        recall = recall_at_50(
            users(data["validation_history"]), item_vectors,
            data["validation_excluded"], data["validation_targets"],
        )  # fmt: skip
        curve.append({"epoch": epoch, "cpu_seconds": cpu_seconds, "recall": recall})
        print(epoch, round(train_seconds), round(recall, 4), flush=True)
        if recall > best:
            best, best_epoch = recall, epoch
            np.savez(
                args.output + ".npz", interests=users(data["test_history"]), items=item_vectors
            )
        elif epoch - best_epoch >= args.patience:
            break
    report = {
        "best_epoch": best_epoch,
        "validation.recall": best,
        "train_seconds": train_seconds,
        "cpu_seconds": cpu_seconds,
        "examples_per_cpu_second": len(target) * len(curve) / cpu_seconds,
        "curve": curve,
        **memory(),
    }
    with open(args.output + ".json", "w") as file:
        json.dump(report, file)


def speed(model, features, zeros, args):
    """Examples per CPU-second of training steps alone, after a warm-up."""
    batch = {name: values[: args.batch_size] for name, values in features.items()}
    zeros = zeros[: args.batch_size]
    for _ in range(20):
        model.train_on_batch(batch, zeros)
    cpu, wall, steps = time.process_time(), time.monotonic(), 0
    while time.monotonic() - wall < args.speed_seconds:
        model.train_on_batch(batch, zeros)
        steps += 1
    rate = steps * args.batch_size / (time.process_time() - cpu)
    with open(args.output + ".json", "w") as file:
        json.dump({"examples_per_cpu_second": rate, **memory()}, file)


if __name__ == "__main__":
    main()
