"""What the model knows about the items: train counts and side features."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The items, as constant tables looked up by item index.

    Index 0 is padding; items 1..N are ordered by descending train count.

    Attributes:
      train_counts: int64 [N + 1]; occurrences in train, 0 for row 0 and for
        items that do not occur there.
      side_features: Per feature, int32 [N + 1, F] indices of its values; 0 is
        padding.
      side_vocab_sizes: Per feature, its largest index + 1.

    Raises:
      ValueError: if the tables contradict each other.
    """

    train_counts: np.ndarray
    side_features: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    side_vocab_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = self.train_counts
        if counts.ndim != 1 or len(counts) < 2 or counts[0] != 0:
            raise ValueError(
                "train_counts must be a vector [N + 1] with N >= 1 and row 0 (padding) zero; "
                f"received shape {counts.shape}, first entry {counts[:1]}."
            )
        if np.any(np.diff(counts[1:]) > 0):
            raise ValueError(
                "train_counts must not increase from item 1 on, because log-uniform sampling uses "
                "the index as the frequency rank. Order the item vocabulary by train frequency."
            )
        if set(self.side_features) != set(self.side_vocab_sizes):
            raise ValueError(
                f"side_features {sorted(self.side_features)} and side_vocab_sizes "
                f"{sorted(self.side_vocab_sizes)} must name the same features."
            )
        for name, table in self.side_features.items():
            if table.ndim != 2 or len(table) != len(counts):
                raise ValueError(
                    f"Side feature {name!r} must be [{len(counts)}, F], received {table.shape}."
                )
            if table.size and not 0 <= table.min() <= table.max() < self.side_vocab_sizes[name]:
                raise ValueError(
                    f"Side feature {name!r} has indices from {table.min()} to {table.max()}; "
                    f"its vocabulary size {self.side_vocab_sizes[name]} allows 0 to one less."
                )

    @property
    def num_items(self) -> int:
        """N, the number of items without the padding."""
        return len(self.train_counts) - 1

    @property
    def num_seen(self) -> int:
        """Number of items that occur in train, whose indices are 1..num_seen."""
        return int(np.count_nonzero(self.train_counts))
