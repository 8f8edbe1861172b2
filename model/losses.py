"""Sampled softmax with logQ correction: MIND section 3.5, equation 10."""

import tensorflow as tf

from model.sampling import Negatives

_REMOVED = -1e9


def sampled_softmax_loss(
    user_vectors: tf.Tensor,
    target_vectors: tf.Tensor,
    targets: tf.Tensor,
    negative_vectors: tf.Tensor,
    negatives: Negatives,
    temperature: float,
    logq_correction: bool,
) -> tf.Tensor:
    """Cross entropy of the target against the batch's negatives.

    ``tf.nn.sampled_softmax_loss`` takes a weight matrix to gather from, which
    rules out pooled side features, a temperature and normalised vectors.

    Args:
      user_vectors: float [B, d].
      target_vectors: float [B, d].
      targets: int32 [B]; a negative equal to the row's target (an accidental
        hit) is removed.
      negative_vectors: float [C, d], vectors of ``negatives.items``.
      negatives: The candidates and their expected counts.
      temperature: Divides the dot products.
      logq_correction: Subtract log expected counts, which makes the sampled
        softmax an estimate of the full one (Bengio & Senecal 2008).

    Returns:
      float [B].
    """
    positive = tf.einsum("bd,bd->b", user_vectors, target_vectors) / temperature
    # The smaller factor is divided: [B, d], not [B, C].
    negative = tf.matmul(user_vectors / temperature, negative_vectors, transpose_b=True)  # [B, C]
    if logq_correction:
        positive -= negatives.target_log_expected_count
        negative -= negatives.log_expected_count
    hits = negatives.items[tf.newaxis, :] == targets[:, tf.newaxis]
    negative = tf.where(hits, _REMOVED, negative)
    # -log softmax of the positive, without concatenating [B, 1 + C].
    return tf.nn.softplus(tf.reduce_logsumexp(negative, axis=1) - positive)
