"""torch-rechub 0.9's MIND on a split that ``benchmarks/quality.py`` wrote.

Runs in an environment of its own (see ``benchmarks/peers/__init__.py``) and so
imports nothing of this project. Reads an .npz with padded histories, writes an
.npz with the vectors of the best epoch and a .json with times.

Configuration: its example's (list-wise softmax, Adam, three negatives of its own
for every example), with the dimension, interests and early stopping of the
comparison. It has no negatives that a batch shares.
"""

import argparse
import json
import time

import numpy as np
import torch
from peer_results import memory, recall_at_50
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import MIND

torch.set_num_threads(1)


def main():
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True, help="without ending")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--interests", type=int, default=4)
    parser.add_argument("--negatives", type=int, default=3, help="of each example")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--max-epochs", type=int, default=60)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed-seconds", type=int, default=0, help="only measure speed")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = dict(np.load(args.input))
    history, target = (
        torch.as_tensor(data[n].astype(np.int64)) for n in ("train_history", "train_target")
    )
    num_rows, length = int(data["num_items"]) + 1, history.shape[1]

    def sequence(name):
        return SequenceFeature(
            name, num_rows, embed_dim=args.dim, pooling="concat", shared_with="item"
        )

    model = MIND(
        # It asks for a user feature; one that says nothing.
        [SparseFeature("user", 1, embed_dim=args.dim)],
        [sequence("hist_item")],
        [SparseFeature("item", num_rows, embed_dim=args.dim)],
        [sequence("neg_items")],
        max_length=length,
        temperature=0.02,
        interest_num=args.interests,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-6)
    criterion = torch.nn.CrossEntropyLoss()

    def features(rows, **others):
        return {"user": torch.zeros(len(rows), dtype=torch.long), "hist_item": rows, **others}

    def step(rows):
        negatives = torch.randint(1, num_rows, (len(rows), args.negatives))
        scores = model(features(history[rows], item=target[rows], neg_items=negatives))
        loss = criterion(scores, torch.zeros(len(rows), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if args.speed_seconds:
        rows = torch.arange(args.batch_size)
        for _ in range(20):
            step(rows)
        cpu, wall, steps = time.process_time(), time.monotonic(), 0
        while time.monotonic() - wall < args.speed_seconds:
            step(rows)
            steps += 1
        rate = steps * args.batch_size / (time.process_time() - cpu)
        with open(args.output + ".json", "w") as file:
            json.dump({"examples_per_cpu_second": rate, **memory()}, file)
        return

    @torch.no_grad()
    def vectors(histories):
        model.mode = "user"
        parts = torch.as_tensor(histories.astype(np.int64)).split(2048)
        users = torch.cat([model(features(part)) for part in parts]).numpy()
        model.mode = "item"
        items = model({"item": torch.arange(num_rows)}).numpy()
        model.mode = None
        return users, items

    best, best_epoch, train_seconds, cpu_seconds, curve = -1.0, 0, 0.0, 0.0, []
    for epoch in range(1, args.max_epochs + 1):
        wall, cpu = time.monotonic(), time.process_time()
        for rows in torch.randperm(len(target)).split(args.batch_size):
            step(rows)
        train_seconds += time.monotonic() - wall
        cpu_seconds += time.process_time() - cpu
        recall = recall_at_50(
            *vectors(data["validation_history"]),
            data["validation_excluded"],
            data["validation_targets"],
        )
        curve.append({"epoch": epoch, "cpu_seconds": cpu_seconds, "recall": recall})
        print(epoch, round(train_seconds), round(recall, 4), flush=True)
        if recall > best:
            best, best_epoch = recall, epoch
            interests, items = vectors(data["test_history"])
            np.savez(args.output + ".npz", interests=interests, items=items)
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


if __name__ == "__main__":
    main()
