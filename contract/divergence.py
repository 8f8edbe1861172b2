"""The divergence of two histograms, and buckets in which to count items."""

import numpy as np


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float | None:
    """Jensen-Shannon divergence of two histograms, to the base 2.

    Args:
      one: Counts [B], not negative.
      other: Counts [B] of the same buckets; the sums of the two may differ.

    Returns:
      From 0 (the same shares) to 1 (no bucket in common); None if one of them is empty,
      because there is nothing to compare.
    """
    if not one.sum() or not other.sum():
        return None
    shares = np.stack([one / one.sum(), other / other.sum()])
    ratios = np.divide(shares, shares.mean(axis=0), out=np.ones_like(shares), where=shares > 0)
    return float((shares * np.log2(ratios)).sum() / 2)


def equal_mass_buckets(counts: np.ndarray, num_buckets: int) -> np.ndarray:
    """Puts items into buckets that hold about equal parts of all events.

    Args:
      counts: Events of each item [N], in any order; not all 0.
      num_buckets: B.

    Returns:
      Bucket of each item, int64 [N]: 0 has the most frequent items. Items without an
      event are in the last.
    """
    order = np.argsort(-counts, kind="stable")
    ordered = counts[order]
    before = np.cumsum(ordered) - ordered  # events of more frequent items
    buckets = np.empty(len(counts), np.int64)
    buckets[order] = np.minimum(before * num_buckets // ordered.sum(), num_buckets - 1)
    return buckets
