"""Validation: exact full-ranking metrics of people whose next items are known."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from model import metrics, ranking
from model.network.interest_statistics import interest_statistics
from model.network.mind import MindModel

_VALIDATION_BATCH = 1024
# People whose own items are scored at once: each may have hundreds.
_OWN_BATCH = 64
# Logits by which own items are tried to gain, and people who decide.
_OFFSETS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
_CALIBRATION_PEOPLE = 1_000


@dataclasses.dataclass(frozen=True)
class ValidationData:
    """People whose next items are known.

    Attributes:
      history: int [U, T], oldest first, zeros at the end.
      targets: int [U, M] padded with -1, or ragged [U, None]; 0 is an unknown
        item.
      profile: int [U] per profile feature.
      excluded: int [U, H], items to leave out of the candidates, zero padded;
        the history if not given.
      times: int64 [U, T], seconds of the history; only if the model asks for them.
    """

    history: np.ndarray
    targets: np.ndarray | tf.RaggedTensor
    profile: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    excluded: np.ndarray | None = None
    times: np.ndarray | None = None

    def padded_targets(self) -> np.ndarray:
        """Targets as int32 [U, M], padded with -1."""
        targets = self.targets
        if isinstance(targets, tf.RaggedTensor):
            targets = targets.to_tensor(default_value=-1).numpy()
        return np.asarray(targets, np.int32)

    def sample(self, users: int) -> "ValidationData":
        """At most ``users`` people, evenly spaced: files are often sorted by activity."""
        total = len(self.history)
        rows = np.linspace(0, total - 1, min(users, total)).astype(np.int64)
        return ValidationData(
            history=np.asarray(self.history)[rows],
            targets=self.padded_targets()[rows],
            profile={name: np.asarray(values)[rows] for name, values in self.profile.items()},
            excluded=None if self.excluded is None else np.asarray(self.excluded)[rows],
            times=None if self.times is None else np.asarray(self.times)[rows],
        )


def evaluate(
    model: MindModel, data: ValidationData, cutoffs: tuple[int, ...], exclude_history: bool
) -> dict[str, float]:
    """Exact full-ranking metrics and interest statistics.

    Returns:
      The keys of `metrics.metrics_from_ranks` and of `interest_statistics`.
    """
    interests, mask = predict_interests(model, data.history, data.profile, data.times)
    ranks = _ranks(model, data, interests, mask, exclude_history)
    statistics = {k: float(v) for k, v in interest_statistics(interests, mask).items()}
    return {**metrics.metrics_from_ranks(ranks, cutoffs), **statistics}


def calibrate(model: MindModel, data: ValidationData, cutoff: int) -> None:
    """Weighs own items against all others, so that Recall@N is the largest with the history.

    Sets ``c`` of `RepeatScore`, to the smallest of those that are equally good; without
    ``repeat`` there is nothing to do.

    Args:
      model: Its other weights stay as they are.
      data: People who were not trained with.
      cutoff: N.
    """
    if model.repeat is None:
        return
    people = data.sample(_CALIBRATION_PEOPLE)
    interests, mask = predict_interests(model, people.history, people.profile, people.times)
    recalls = []
    for offset in _OFFSETS:
        model.repeat.offset.assign(offset)
        ranks = _ranks(model, people, interests, mask, exclude_history=False)
        recalls.append(metrics.metrics_from_ranks(ranks, (cutoff,))[f"recall@{cutoff}"])
    model.repeat.offset.assign(_OFFSETS[int(np.argmax(recalls))])


def person_ranks(model: MindModel, data: ValidationData, exclude_history: bool) -> np.ndarray:
    """Exact ranks of every person's targets, int32 [U, M]; see `ranking.target_ranks`."""
    interests, mask = predict_interests(model, data.history, data.profile, data.times)
    return _ranks(model, data, interests, mask, exclude_history)


def _ranks(
    model: MindModel,
    data: ValidationData,
    interests: tf.Tensor,
    mask: tf.Tensor,
    exclude_history: bool,
) -> np.ndarray:
    whole = tf.constant(data.history if data.excluded is None else data.excluded, tf.int32)
    return ranking.target_ranks(
        interests,
        mask,
        model.item_embeddings(),
        whole,
        tf.constant(data.padded_targets()),
        exclude_history,
        # Who is not offered anything again needs none of it.
        own=None if exclude_history else _own_bonus(model, whole, interests, mask),
    ).numpy()


def _own_bonus(
    model: MindModel, history: tf.Tensor, interests: tf.Tensor, mask: tf.Tensor
) -> ranking.OwnBonus | None:
    """What own items gain, for any number of people; None for a model without ``repeat``.

    Args:
      model: The model.
      history: int32 [U, H], all that is known of people; 0 is padding at the end.
      interests: float32 [U, K, d].
      mask: bool [U, K].
    """
    if model.repeat is None:
        return None
    parts = []
    for start in range(0, len(history), _OWN_BATCH):
        rows = slice(start, start + _OWN_BATCH)
        parts.append(
            model.repeat.bonus(history[rows], interests[rows], mask[rows], model.item_vectors)
        )
    width = max(part.items.shape[1] for part in parts)
    items, bonus = (
        tf.concat([tf.pad(part, [[0, 0], [0, width - part.shape[1]]]) for part in column], axis=0)
        for column in zip(*parts, strict=True)
    )
    return ranking.OwnBonus(items, bonus)


def predict_interests(
    model: MindModel,
    history: np.ndarray,
    profile: Mapping[str, np.ndarray],
    times: np.ndarray | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Interests [U, K, d] and mask [U, K] of any number of people, in batches."""
    interests, masks = [], []
    for start in range(0, len(history), _VALIDATION_BATCH):
        part = slice(start, start + _VALIDATION_BATCH)
        features = {n: tf.constant(profile[n][part], tf.int32) for n in model.profile_features}
        vectors, mask = model.compiled_user_interests(
            tf.constant(history[part], tf.int32),
            features,
            None if times is None else tf.constant(times[part], tf.int64),
        )
        interests.append(vectors)
        masks.append(mask)
    return tf.concat(interests, axis=0), tf.concat(masks, axis=0)
