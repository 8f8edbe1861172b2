"""A bundle behind its signatures, as a client of a server sees it."""

import contextlib

import numpy as np
import tensorflow as tf

from contract.features import HISTORY
from retrieval.bundle import person_inputs
from retrieval.category_ranking import no_wishes
from retrieval.people import People


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
        self._serve = self._loaded.signatures["serving_default"]
        self._user_interests = self._loaded.signatures["user_interests"]
        self.person_inputs = person_inputs(self._loaded)
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
        """Asks ``serving_default`` for ``k`` items each, without the history."""
        answer = self._serve(
            **_inputs(people),
            k=tf.constant(k),
            exclude=tf.constant([[""]]),
            exclude_history=tf.constant(True),
            **no_wishes(self._serve.structured_input_signature[1]),
        )
        return {name: value.numpy() for name, value in answer.items()}

    def exact_scores(self, people: People, k: int) -> np.ndarray:
        """Returns the best possible scores [P, k], best first; -inf is none.

        NumPy over the bundle's vectors: nothing of the index takes part.
        """
        user = self._user_interests(**_inputs(people))
        interests, mask = user["interests"].numpy(), user["interest_mask"].numpy()
        knows_any = user["history_index"].numpy().any(axis=1)
        best = np.full([len(people), k], -np.inf, np.float32)
        for row, history in enumerate(people.history):
            owned = [self._position[item] for item in history if item in self._position]
            if not owned or not knows_any[row]:
                continue
            scores = (self._vectors @ interests[row][mask[row]].T).max(axis=1)
            scores[owned] = -np.inf
            best[row] = -np.sort(np.partition(-scores, k - 1)[:k])
        return best


def _inputs(people: People) -> dict[str, tf.Tensor]:
    return {
        HISTORY: tf.constant(people.history, tf.string),
        **{name: tf.constant(values) for name, values in people.person.items()},
    }
