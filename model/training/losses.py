"""Sampled softmax with logQ correction: MIND section 3.5, equation 10."""

from typing import NamedTuple

import tensorflow as tf

from model.training.sampling import Negatives

_REMOVED = -1e9


class OwnLogits(NamedTuple):
    """Logits of people's own items, see `RepeatScore`.

    Attributes:
      logits: float [B, 1 + n], the logit of the target, then those of the drawn items.
      is_candidate: bool [B, 1 + n]; False at positions without a candidate.
      log_expected_count: float [B, 1 + n], as in `Negatives`.
    """

    logits: tf.Tensor
    is_candidate: tf.Tensor
    log_expected_count: tf.Tensor


def sampled_softmax_loss(
    user_vectors: tf.Tensor,
    target_vectors: tf.Tensor,
    targets: tf.Tensor,
    negative_vectors: tf.Tensor,
    negatives: Negatives,
    temperature: float,
    logq_correction: bool,
    hard_negatives: float = 0.0,
    own: OwnLogits | None = None,
) -> tf.Tensor:
    """Computes the cross entropy of the target against the batch's negatives.

    ``tf.nn.sampled_softmax_loss`` gathers from a weight matrix, which rules out pooled
    side features, a temperature and normalised vectors.

    Example:
      One person, a target that fits and one negative that does not:

      >>> negatives = Negatives(tf.constant([2]), tf.zeros([1]), tf.zeros([1]))
      >>> loss = sampled_softmax_loss(
      ...     tf.constant([[1.0, 0.0]]), tf.constant([[1.0, 0.0]]), tf.constant([1]),
      ...     tf.constant([[0.0, 1.0]]), negatives, temperature=1.0, logq_correction=False,
      ... )
      >>> print(loss.numpy().round(4))
      [0.3133]

    Args:
      user_vectors: float [B, d], or [B, K, d] to score every candidate by its best vector.
      target_vectors: float [B, d].
      targets: int32 [B]; a negative equal to the row's target (an accidental
        hit) is removed.
      negative_vectors: float [C, d], vectors of ``negatives.items``.
      negatives: The candidates and their expected counts.
      temperature: Divides the dot products.
      logq_correction: Subtract log expected counts, which makes the sampled
        softmax an estimate of the full one (Bengio & Senecal 2008).
      hard_negatives: beta of interest-aware hard negatives (REMI, arXiv
        2302.14532): a negative with the logit s has the weight ``exp(beta s)``,
        divided by the mean of these weights in the row. The row's user vector is
        its chosen interest, so negatives are hard for that interest. 0 weighs all
        negatives equally.
      own: Further candidates of each row. If the target is an own item, its logit here
        replaces the one from the vectors. Own items that also happen to be among the
        shared negatives are not removed from those.

    Returns:
      float [B].
    """
    # Dividing the user vectors [B, d] is cheaper than dividing the logits [B, C].
    scaled = user_vectors / temperature
    if user_vectors.shape.rank == 3:
        positive = tf.reduce_max(tf.einsum("bkd,bd->bk", scaled, target_vectors), axis=1)
        negative = tf.reduce_max(tf.einsum("bkd,cd->bkc", scaled, negative_vectors), axis=1)
    else:
        positive = tf.einsum("bd,bd->b", user_vectors, target_vectors) / temperature
        negative = tf.matmul(scaled, negative_vectors, transpose_b=True)  # [B, C]
    if hard_negatives:
        tilt = hard_negatives * tf.stop_gradient(negative)
    if logq_correction:
        positive -= negatives.target_log_expected_count
        negative -= negatives.log_expected_count
    hits = negatives.items[tf.newaxis, :] == targets[:, tf.newaxis]
    negative = tf.where(hits, _REMOVED, negative)
    if hard_negatives:
        # Log weight of each candidate without hard negatives, [B, C].
        base = tf.where(hits, _REMOVED, 0.0)
        if logq_correction:
            base -= negatives.log_expected_count
        mean_tilt = tf.reduce_logsumexp(base + tilt, axis=1) - tf.reduce_logsumexp(base, axis=1)
        negative += tilt - mean_tilt[:, tf.newaxis]
    others = tf.reduce_logsumexp(negative, axis=1)
    if own is not None:
        logits = own.logits - own.log_expected_count if logq_correction else own.logits
        logits = tf.where(own.is_candidate, logits, _REMOVED)
        positive = tf.where(own.is_candidate[:, 0], logits[:, 0], positive)
        others = tf.reduce_logsumexp(
            tf.concat([others[:, tf.newaxis], logits[:, 1:]], axis=1), axis=1
        )
    # -log softmax of the positive, without concatenating [B, 1 + C].
    return tf.nn.softplus(others - positive)
