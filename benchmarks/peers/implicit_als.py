"""implicit's alternating least squares on sequences that ``benchmarks/quality.py`` wrote.

Runs in an environment of its own (see ``benchmarks/peers/__init__.py``) and so imports nothing of
this project. Reads an .npz with whole sequences, writes an .npz with the factors of the best
iteration and a .json with times. People whom training has not seen get their factors from their
whole history (``recalculate_user``).

Its defaults (Hu, Koren and Volinsky 2008; conjugate gradients), with the dimension and the early
stopping of the comparison: an iteration takes the place of an epoch.
"""

import os

# As the library asks for: it has threads of its own, of which it gets one.
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
    """Runs the program."""
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
        iterations=1,  # of each call, which goes on from the factors that are there
        num_threads=1,
        random_state=args.seed,
    )

    def vectors(histories):
        users = model.recalculate_user(np.arange(len(histories)), counts(histories, num_rows))
        return users[:, np.newaxis], model.item_factors

    peer_run.train(args, data, lambda: model.fit(train, show_progress=False), vectors, train.nnz)


if __name__ == "__main__":
    main()
