"""RecTools' SASRec and eSASRec on sequences that ``benchmarks/quality.py`` wrote.

    rectools_sasrec.py sasrec|esasrec --input ... --output ...

The script runs in its own environment (see ``benchmarks/peers/__init__.py``), so of this project it
imports only modules in its own directory. It reads an .npz with whole sequences, and writes an .npz
with the vectors of the best epoch and a .json with figures. RecTools counts padding as item 0 and
leaves out items without a training event; its external ids are the project's item indices.

Both learn from every position of a person's newest events, with a softmax over the next item and
256 items drawn uniformly for each position. eSASRec replaces the layers of SASRec by gated ones
(LiGR). The defaults are those that the authors of eSASRec chose for Amazon Beauty (Tikhonovich et
al. 2025, arXiv 2508.06450; github.com/blondered/transformer_benchmark has the table): dimension 64,
one layer, one head, dropout 0.2, learning rate 0.001, batches of 128 people. Their sequences have
50 events; here sequences are as long as the project's own, unless ``--length`` is given.
"""

import logging
import sys
import time
import warnings

import numpy as np
import pandas as pd
import peer_run
import pytorch_lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

torch.set_num_threads(1)
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
# RecTools and Lightning warn about their own code in every epoch.
warnings.simplefilter("ignore")

_KINDS = {
    "sasrec": {},
    "esasrec": {"transformer_layers_type": LiGRLayers, "use_key_padding_mask": True},
}
_PEOPLE_AT_ONCE = 512
_WARM_UP_STEPS = 2
# The score of an item that RecTools does not know ranks it behind all others.
_NEVER = -1e9


class Stopwatch(pytorch_lightning.Callback):
    """Counts the targets of training steps and their CPU-seconds, after a warm-up.

    Attributes:
      targets: Number of targets in the measured steps.
      cpu_seconds: CPU-seconds of these steps, including making their batches.
    """

    def __init__(self, seconds):
        super().__init__()
        self.targets, self.cpu_seconds, self._steps, self._seconds = 0, 0.0, 0, seconds

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """Counts a training step that has ended."""
        self._steps += 1
        if self._steps <= _WARM_UP_STEPS:
            self._cpu, self._wall = time.process_time(), time.monotonic()
            return
        self.targets += int((batch["y"] > 0).sum())
        self.cpu_seconds = time.process_time() - self._cpu
        trainer.should_stop = time.monotonic() - self._wall > self._seconds


def trainer(**options):
    """Returns a trainer of Lightning that runs on one CPU and prints nothing."""
    return pytorch_lightning.Trainer(
        accelerator="cpu",
        devices=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        **options,
    )


def dataset_of(sequences):
    """Returns the sequences as a RecTools dataset.

    People are numbered in order, and the time of an event is its position in the sequence.
    """
    lengths = [len(sequence) for sequence in sequences]
    positions = np.concatenate([np.arange(length) for length in lengths])
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: np.repeat(np.arange(len(sequences)), lengths),
                Columns.Item: np.concatenate(sequences),
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(positions, unit="s"),
            }
        )
    )


def main():
    """Trains the model, or measures the speed of its training."""
    kind = sys.argv.pop(1)
    parser = peer_run.parser(__doc__.split("\n")[0], batch_size=128, negatives=256)
    parser.add_argument("--length", type=int, help="number of newest events to read")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument(
        "--ff-multiplier", type=int, default=4, help="of the feed-forward layers of eSASRec"
    )
    args = parser.parse_args()
    pytorch_lightning.seed_everything(args.seed, verbose=False)
    data = peer_run.whole_sequences(dict(np.load(args.input)))
    length = args.length or int(data["history_length"])
    options = dict(_KINDS[kind])
    if "transformer_layers_type" in options:
        options["transformer_layers_kwargs"] = {"ff_factors_multiplier": args.ff_multiplier}
    speed = {"max_epochs": -1, "callbacks": [Stopwatch(args.speed_seconds)]}
    model = SASRecModel(
        n_factors=args.dim,
        n_blocks=args.layers,
        n_heads=args.heads,
        dropout_rate=args.dropout,
        session_max_len=length,
        batch_size=args.batch_size,
        loss="sampled_softmax",
        n_negatives=args.negatives,
        get_trainer_func=lambda: trainer(**(speed if args.speed_seconds else {"max_epochs": 1})),
        **options,
    )
    dataset = dataset_of(data["train"])
    if args.speed_seconds:
        model.fit(dataset)
        watch = next(c for c in model.fit_trainer.callbacks if isinstance(c, Stopwatch))
        peer_run.write(args, {"examples_per_cpu_second": watch.targets / watch.cpu_seconds})
        return

    @torch.no_grad()
    def vectors(histories):
        network = model.torch_model.eval()
        known = model.data_preparator.get_known_item_ids().astype(np.int64)
        internal = np.zeros(int(data["num_items"]) + 1, np.int64)
        internal[known] = model.data_preparator.get_known_items_sorted_internal_ids()
        newest = np.zeros((len(histories), length), np.int64)
        for row, history in zip(newest, histories, strict=True):
            items = internal[history]
            items = items[items > 0][-length:]
            row[length - len(items) :] = items
        table = network.item_model.get_all_embeddings()
        users = torch.cat(
            [
                network.encode_sessions({"x": part}, table)[:, -1]
                for part in torch.as_tensor(newest).split(_PEOPLE_AT_ONCE)
            ]
        ).numpy()
        # One more dimension, which is 1 for users and 0 for known items, ranks unknown items last.
        items = np.zeros((len(internal), args.dim + 1), np.float32)
        items[:, :-1] = table.numpy()[internal]
        items[internal == 0] = [0.0] * args.dim + [_NEVER]
        return np.pad(users, ((0, 0), (0, 1)), constant_values=1.0)[:, np.newaxis], items

    def run_epoch():
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)

    targets = sum(min(len(sequence) - 1, length) for sequence in data["train"])
    peer_run.train(args, data, run_epoch, vectors, targets)


if __name__ == "__main__":
    main()
