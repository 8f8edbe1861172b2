"""A small learnable data set."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from model.catalogue import Catalogue
from model.training.validation import ValidationData


@dataclasses.dataclass(frozen=True)
class ToyData:
    """People with planted interests: each buys from two groups of items only.

    Attributes:
      sequences: Item indices per person, oldest first.
      groups: Group of every item index, [N + 1]; -1 for padding.
      person_groups: The two groups of every person, [P, 2].
      catalogue: Ids only.
    """

    sequences: list[list[int]]
    groups: np.ndarray
    person_groups: np.ndarray
    catalogue: Catalogue

    def dataset(self) -> tf.data.Dataset:
        number = len(self.sequences)
        rows = {
            "sequence": tf.ragged.constant([s[:-1] for s in self.sequences], dtype=tf.int64),
            "num_context": np.zeros(number, np.int64),
            "profile": {},
        }
        return tf.data.Dataset.from_tensor_slices(rows).batch(64)

    def validation(self, length: int) -> ValidationData:
        """Every person's last item is the target."""
        history = np.zeros((len(self.sequences), length), np.int32)
        for row, items in zip(history, self.sequences, strict=True):
            shown = items[:-1][-length:]
            row[: len(shown)] = shown
        return ValidationData(history, np.array([[s[-1]] for s in self.sequences]))


def make_toy_data(people=600, num_groups=6, group_size=8, length=16, seed=0) -> ToyData:
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(num_groups, 2, replace=False) for _ in range(people)])
    raw = [
        [int(g * group_size + rng.integers(group_size)) for g in rng.choice(pair, length)]
        for pair in pairs
    ]
    counts = np.bincount(np.concatenate(raw), minlength=num_groups * group_size)
    order = np.argsort(-counts, kind="stable")
    index = np.empty_like(order)
    index[order] = np.arange(1, len(order) + 1)
    return ToyData(
        sequences=[[int(index[i]) for i in s] for s in raw],
        groups=np.append(-1, order // group_size),
        person_groups=pairs,
        catalogue=Catalogue(np.append(0, counts[order])),
    )


@pytest.fixture(scope="session")
def toy_data() -> ToyData:
    return make_toy_data()
