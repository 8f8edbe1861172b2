"""A bundle behind its signatures, as a client of a server sees it."""

import contextlib

import numpy as np
import tensorflow as tf

from contract import signatures as names
from contract.features import HISTORY
from retrieval.people import People
from retrieval.tower import person_inputs


class ServedBundle:
    """Answers requests through the real signatures; exact search for comparison.

    Attributes:
      person_inputs: Names of the inputs about a person beside the history.
    """

    def __init__(self, model_dir: str) -> None:
        """Loads the SavedModel in ``model_dir``."""
        # Registers the ops that a ScaNN index needs, as a server's build does.
        with contextlib.suppress(ImportError):
            from scann.scann_ops.py import scann_ops  # noqa: F401
        self._loaded = tf.saved_model.load(model_dir)
        self._serve = self._loaded.signatures[names.SERVE]
        self._user_interests = self._loaded.signatures[names.USER_INTERESTS]
        self.person_inputs = person_inputs(self._loaded.signatures)
        vectors = self._loaded.tower.item_vectors.numpy()
        is_retrievable = np.any(vectors != 0.0, axis=1)
        self._vectors = vectors[is_retrievable]
        ids = self._loaded.tower.item_ids.numpy()[is_retrievable]
        self._position = {item: position for position, item in enumerate(ids)}

    @property
    def num_retrievable(self) -> int:
        """Items that can be recommended."""
        return len(self._vectors)

    def recommend(self, people: People, k: int) -> dict[str, np.ndarray]:
        """Asks ``serving_default`` for ``k`` items for each person, without the history."""
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
        """Returns the best possible scores [P, k], best first; -inf is none.

        NumPy over the bundle's vectors: nothing of the index takes part.
        """
        inputs = {name: tf.constant(value) for name, value in _inputs(people).items()}
        user = self._user_interests(**inputs)
        interests, mask = user[names.INTERESTS].numpy(), user[names.INTEREST_MASK].numpy()
        knows_any = user[names.HISTORY_INDEX].numpy().any(axis=1)
        best = np.full([len(people), k], -np.inf, np.float32)
        for row, history in enumerate(people.history):
            owned = [self._position[item] for item in history if item in self._position]
            if not owned or not knows_any[row]:
                continue
            scores = (self._vectors @ interests[row][mask[row]].T).max(axis=1)
            scores[owned] = -np.inf
            best[row] = -np.sort(np.partition(-scores, k - 1)[:k])
        return best


def _inputs(people: People) -> dict[str, np.ndarray]:
    return {HISTORY: people.history, **people.person}
