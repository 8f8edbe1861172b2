"""implicit's alternating least squares on sequences that ``benchmarks/quality.py`` wrote.

The script runs in its own environment (see ``benchmarks/peers/__init__.py``), so of this project it
imports only modules in its own directory. It reads an .npz with whole sequences, and writes an .npz
with the factors of the best iteration and a .json with figures. Validation and test people get
their factors from their whole history (``recalculate_user``).

The configuration is implicit's default (Hu, Koren and Volinsky 2008; conjugate gradients), with the
dimension and the early stopping of the comparison. One iteration counts as an epoch.
"""

import os

# implicit asks for this, because it uses its own threads; here it gets one.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import peer_run
import scipy.sparse
from implicit.cpu.als import AlternatingLeastSquares


def counts(sequences, num_rows):
    """Returns how often each person had each item, float32 [people, num_rows], sparse."""
    people = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    items = np.concatenate(sequences)
    return scipy.sparse.csr_matrix(
        (np.ones(len(items), np.float32), (people, items)), shape=(len(sequences), num_rows)
    )


def main():
    """Trains the model."""
    parser = peer_run.parser(__doc__.split("\n")[0], batch_size=1, negatives=0)
    parser.add_argument("--regularization", type=float, default=0.01)
    parser.add_argument("--alpha", type=float, default=1.0)
    args = parser.parse_args()
    data = peer_run.whole_sequences(dict(np.load(args.input)))
    num_rows = int(data["num_items"]) + 1
    train = counts(data["train"], num_rows)
    model = AlternatingLeastSquares(
        factors=args.dim,
        regularization=args.regularization,
        alpha=args.alpha,
        iterations=1,  # of each call of ``fit``, which continues from the factors of the last call
        num_threads=1,
        random_state=args.seed,
    )

    def vectors(histories):
        users = model.recalculate_user(np.arange(len(histories)), counts(histories, num_rows))
        return users[:, np.newaxis], model.item_factors

    peer_run.train(args, data, lambda: model.fit(train, show_progress=False), vectors, train.nnz)


if __name__ == "__main__":
    main()
