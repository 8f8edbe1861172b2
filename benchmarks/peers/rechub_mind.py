"""torch-rechub 0.9's MIND on a split that ``benchmarks/quality.py`` wrote.

The script runs in its own environment (see ``benchmarks/peers/__init__.py``), so of
this project it imports only modules in its own directory. It reads an .npz with padded
histories, and writes an .npz with the vectors of the best epoch and a .json with figures.

The configuration is that of torch-rechub's example (list-wise softmax, Adam, three
negatives drawn for each example), with the dimension, interests and early stopping of
the comparison. The library has no negatives that a batch shares.
"""

import numpy as np
import peer_run
import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import MIND

torch.set_num_threads(1)


def main():
    """Trains the model, or measures the speed of its training step."""
    args = peer_run.parser(__doc__.split("\n")[0], batch_size=256, negatives=3).parse_args()
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
        # The model requires a user feature; this one has the same value for everybody.
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
        peer_run.measure_speed(args, lambda: step(rows))
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

    def run_epoch():
        for rows in torch.randperm(len(target)).split(args.batch_size):
            step(rows)

    peer_run.train(args, data, run_epoch, vectors, len(target))


if __name__ == "__main__":
    main()
