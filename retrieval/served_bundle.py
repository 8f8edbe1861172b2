"""Loads a bundle and calls its signatures, as a server does for a client."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from contract import signatures as names
from contract.features import HISTORY
from retrieval.exact_truth import exact_scores
from retrieval.people import People
from retrieval.tower import blocks, person_inputs

_PEOPLE_AT_ONCE = 32


class ServedBundle:
    """Answers requests through the served signatures; also searches exactly, for comparison.

    Attributes:
      person_inputs: Names of the inputs about a person, apart from the history.
      interests_shape: Number of interests per person, K, and their dimensions, d.
    """

    def __init__(self, model_dir: str) -> None:
        """Loads the SavedModel in ``model_dir``."""
        # Importing this registers the ops of a ScaNN index, which a server has built in.
        with contextlib.suppress(ImportError):
            from scann.scann_ops.py import scann_ops  # noqa: F401
        self._loaded = tf.saved_model.load(model_dir)
        self._serve = self._loaded.signatures[names.SERVE]
        self._user_interests = self._loaded.signatures[names.USER_INTERESTS]
        self.person_inputs = person_inputs(self._loaded.signatures)
        self._tower = self._loaded.tower
        interests = self._user_interests.structured_outputs[names.INTERESTS]
        self.interests_shape = tuple(interests.shape[1:])

    @functools.cached_property
    def num_retrievable(self) -> int:
        """The number of items that can be recommended."""
        parts = blocks(self._tower.item_vectors)
        return sum(np.count_nonzero(block.any(axis=1)) for _, block in parts)

    def recommend(self, people: People, k: int) -> dict[str, np.ndarray]:
        """Asks ``serving_default`` for ``k`` items per person that are not in the history."""
        specs = self._serve.structured_input_signature[1]
        inputs = {
            **names.neutral_inputs(specs),
            **_inputs(people),
            names.K: k,
            names.EXCLUDE_HISTORY: True,
        }
        answer = self._serve(
            **{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        )
        return {name: value.numpy() for name, value in answer.items()}

    def exact_scores(self, people: People, k: int) -> np.ndarray:
        """Returns the best possible scores [P, k], best first, padded with -inf.

        NumPy computes them from the bundle's vectors, block by block, without the index.
        """
        parts = [
            self._user_interests(
                **{name: tf.constant(value) for name, value in _inputs(part).items()}
            )
            for part in people.batches(_PEOPLE_AT_ONCE)
        ]
        interests, mask, history = (
            [part[name].numpy() for part in parts]
            for name in (names.INTERESTS, names.INTEREST_MASK, names.HISTORY_INDEX)
        )
        knows_any = np.concatenate([index.any(axis=1, keepdims=True) for index in history])
        return exact_scores(
            self._tower.item_vectors,
            np.concatenate(interests),
            np.concatenate(mask) & knows_any,
            self._rows_of(people.history),
            k,
        )

    def _rows_of(self, history: np.ndarray) -> list[np.ndarray]:
        """Returns, for each row of ``history`` [P, T], the vocabulary rows of its items."""
        wanted = set(history.ravel())
        rows = {}
        for start, ids in blocks(self._tower.item_ids):
            rows.update({item: start + row for row, item in enumerate(ids) if item in wanted})
        return [np.array([rows[i] for i in own if i in rows], np.int64) for own in history]


def _inputs(people: People) -> dict[str, np.ndarray]:
    return {HISTORY: people.history, **people.person}
