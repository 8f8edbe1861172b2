"""DeepMatch 0.3.2's MIND on a split that ``benchmarks/quality.py`` wrote.

The script runs in its own environment (see ``benchmarks/peers/__init__.py``), so of
this project it imports only modules in its own directory. It reads an .npz with padded
histories, and writes an .npz with the vectors of the best epoch and a .json with figures.

The configuration is that of DeepMatch's example (Adam, frequency sampler), with the
dimension, interests, negatives and early stopping of the comparison.
"""

import os
from collections import Counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import peer_run
import tensorflow as tf

tf.compat.v1.disable_eager_execution()  # as DeepMatch's examples do
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

from deepctr.feature_column import SparseFeat, VarLenSparseFeat
from deepmatch.models import MIND
from deepmatch.utils import NegativeSampler, sampledsoftmaxloss
from tensorflow.keras.models import Model


def main():
    """Trains the model, or measures the speed of its training step."""
    parser = peer_run.parser(__doc__.split("\n")[0], batch_size=512, negatives=1280)
    parser.add_argument("--power", type=int, default=100)
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
        batch = {name: values[: args.batch_size] for name, values in features.items()}
        batch_zeros = zeros[: args.batch_size]
        peer_run.measure_speed(args, lambda: model.train_on_batch(batch, batch_zeros))
        return
    peer_run.train(
        args,
        data,
        lambda: model.fit(features, zeros, batch_size=args.batch_size, epochs=1, verbose=0),
        lambda histories: (users(histories), items()),
        len(target),
    )


if __name__ == "__main__":
    main()
