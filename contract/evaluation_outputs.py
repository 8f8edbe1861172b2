"""Output names of the ``evaluate`` signature, shared by models and metrics.

Ranks are 1-based over the whole catalogue; 0 is padding, and a target that the
model does not know has rank ``UNKNOWN_RANK``.
"""

import numpy as np

RANKS = "ranks"  # history excluded from the candidates and from the targets
RANKS_HISTORY_INCLUDED = "ranks_history_included"
POPULARITY_RANKS = "popularity_ranks"
POPULARITY_RANKS_HISTORY_INCLUDED = "popularity_ranks_history_included"
# Baselines of the last days of train, by their number; outputs of the item-kNN model.
RECENT_DAYS = (1, 7)
RECENT_RANKS = {days: f"recent_{days}d_ranks" for days in RECENT_DAYS}
RECENT_RANKS_HISTORY_INCLUDED = {
    days: f"recent_{days}d_ranks_history_included" for days in RECENT_DAYS
}
# The person's own most frequent items; an output of the item-kNN model, too.
PERSONAL_RANKS = "personal_frequency_ranks"
PERSONAL_RANKS_HISTORY_INCLUDED = "personal_frequency_ranks_history_included"
TARGET_POPULARITY = "target_popularity"
RECOMMENDED = "recommended"
CATALOGUE_SIZE = "catalogue_size"

# Names in evaluations: the two models, and the slice that holds everybody.
CANDIDATE = "candidate"
BASELINE = "baseline"
OVERALL = "overall"

UNKNOWN_RANK = np.iinfo(np.int32).max

# Values of TARGET_POPULARITY: the most frequent items that make up half of all
# train events, those up to 90 %, the rest, and items without a train event.
POPULARITY_BUCKETS = {"head": 1, "middle": 2, "tail": 3, "unseen": 4}
HEAD_SHARE = 0.5
MIDDLE_SHARE = 0.9


# Number of groups into which people are split by their ids, the same in every evaluation.
NUM_GROUPS = 1000


def group_sums_to_bytes(sums: np.ndarray) -> bytes:
    """Packs each group's sum and number of people, [2, ``NUM_GROUPS``]."""
    return np.ascontiguousarray(sums, "<f8").tobytes()


def group_sums_from_bytes(packed: bytes) -> np.ndarray:
    """Reads what ``group_sums_to_bytes`` wrote."""
    return np.frombuffer(packed, "<f8").reshape(2, NUM_GROUPS)


def popularity_buckets(train_counts: np.ndarray) -> np.ndarray:
    """Popularity bucket of each item.

    Args:
      train_counts: Train events per item, [N], in descending order.

    Returns:
      int32 [N], values of ``POPULARITY_BUCKETS``.
    """
    counts = np.asarray(train_counts, np.int64)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])  # events of more frequent items
    share = before / max(1, counts.sum())
    buckets = np.select(
        [counts == 0, share < HEAD_SHARE, share < MIDDLE_SHARE],
        [POPULARITY_BUCKETS["unseen"], POPULARITY_BUCKETS["head"], POPULARITY_BUCKETS["middle"]],
        POPULARITY_BUCKETS["tail"],
    )
    return buckets.astype(np.int32)
