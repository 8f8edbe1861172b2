"""How far two histograms are apart."""

import numpy as np


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms, to the base 2.

    Args:
      one: Counts [B], not negative.
      other: Counts [B] of the same buckets; the sums of the two may differ.

    Returns:
      From 0 (the same shares) to 1 (no bucket in common); 0 if one of them is empty,
      because there is nothing to compare.
    """
    if not one.sum() or not other.sum():
        return 0.0
    shares = np.stack([one / one.sum(), other / other.sum()])
    ratios = np.divide(shares, shares.mean(axis=0), out=np.ones_like(shares), where=shares > 0)
    return float((shares * np.log2(ratios)).sum() / 2)
