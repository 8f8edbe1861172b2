"""Validation: exact full-ranking metrics on people whose next items are known."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from model import metrics, ranking
from model.network.interest_statistics import interest_statistics
from model.network.mind import MindModel

_VALIDATION_BATCH = 1024
# People whose own items are scored at once; small, because each person may have hundreds.
_OWN_BATCH = 64
# Values of the offset c that `calibrate` tries, and the number of people it compares them on.
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
      excluded: int [U, H], the whole known history, zero padded: the items to leave
        out of the candidates if the history is excluded, and the source of the own
        items of ``repeat``. ``history`` takes its place if it is None.
      times: int64 [U, T], times of the history in seconds since the epoch; needed
        only if the model has ``time_gap``.
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
        """At most ``users`` people, evenly spaced, because files are often sorted by activity."""
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
    """Computes exact full-ranking metrics and interest statistics.

    Returns:
      The entries of `metrics.metrics_from_ranks` and of `interest_statistics`.
    """
    interests, mask = predict_interests(model, data.history, data.profile, data.times)
    ranks = _ranks(model, data, interests, mask, exclude_history)
    statistics = {k: float(v) for k, v in interest_statistics(interests, mask).items()}
    return {**metrics.metrics_from_ranks(ranks, cutoffs), **statistics}


def calibrate(model: MindModel, data: ValidationData, cutoff: int) -> None:
    """Chooses the offset ``c`` of `RepeatScore`, which weighs own items against all others.

    Takes the value with the largest Recall@N when the history stays among the candidates, and
    the smallest of equally good values. Does nothing for a model without ``repeat``.

    Args:
      model: The model; its other weights do not change.
      data: People whom the model was not trained on.
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
        # With the history excluded, own items are not candidates, so no bonus is needed.
        own=None if exclude_history else _own_bonus(model, whole, interests, mask),
    ).numpy()


def _own_bonus(
    model: MindModel, history: tf.Tensor, interests: tf.Tensor, mask: tf.Tensor
) -> ranking.OwnBonus | None:
    """Computes the bonus of own items in batches, for any number of people.

    Args:
      model: The model.
      history: int32 [U, H], the whole known history of each person; 0 is padding at the end.
      interests: float32 [U, K, d].
      mask: bool [U, K], the active interests.

    Returns:
      The bonus, or None for a model without ``repeat``.
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
    """Computes interests [U, K, d] and mask [U, K] of any number of people, in batches."""
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
