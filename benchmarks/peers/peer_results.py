"""What the scripts of all peers measure alike; imports NumPy only."""

import resource

import numpy as np


def memory():
    """Peak resident memory of this process."""
    return {"peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def recall_at_50(interests, items, excluded, targets):
    """Mean recall of targets (padded with -1), history excluded."""
    recalls = []
    for start in range(0, len(interests), 256):
        part = slice(start, start + 256)
        scores = np.einsum("ukd,nd->ukn", interests[part], items).max(axis=1)
        scores[:, 0] = -np.inf
        np.put_along_axis(scores, excluded[part], -np.inf, axis=1)
        top = np.argpartition(-scores, 50, axis=1)[:, :50]
        for row, wanted, shown in zip(top, targets[part], excluded[part], strict=True):
            wanted = set(wanted.tolist()) - {-1} - set(shown.tolist())
            if wanted:
                recalls.append(len(wanted & set(row.tolist())) / len(wanted))
    return float(np.mean(recalls))
