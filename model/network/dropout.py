"""Dropout from a checkpointed generator, at a fraction of the usual cost of the draws."""

import tensorflow as tf

# One random byte, which has 256 levels, decides whether an entry is kept.
_LEVELS = 256
_BYTES_PER_DRAW = 4


def dropout_factors(shape: tf.Tensor, rate: float, generator: tf.random.Generator) -> tf.Tensor:
    """Returns factors that drop entries at random and scale the others up.

    ``tf.nn.dropout`` draws 32 bits per entry, which took a sixth of a training
    step on a CPU. Here, each draw of 32 bits is used for four entries. The rate is
    rounded to a multiple of 1/256, and the scale of the kept entries follows from the
    rounded rate, so that the expectation of every entry is unchanged.

    Example:
      >>> generator = tf.random.Generator.from_seed(1)
      >>> factors = dropout_factors(tf.constant([100, 8]), 0.5, generator)
      >>> sorted(set(factors.numpy().ravel().tolist()))
      [0.0, 2.0]

    Args:
      shape: int32 [R], the shape of the result.
      rate: Share of entries to drop, at least 0 and below 1.
      generator: Source of randomness, part of the model's checkpoint.

    Returns:
      float32 of ``shape``: 0 for a dropped entry, else ``1 / (1 - rounded rate)``.
    """
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    shape = tf.convert_to_tensor(shape)
    draws = -(-shape[-1] // _BYTES_PER_DRAW)
    words = generator.uniform_full_int(tf.concat([shape[:-1], [draws]], axis=0), tf.uint32)
    # [..., draws] -> [..., draws, 4] -> [..., 4 draws]
    levels = tf.bitcast(words, tf.uint8)
    levels = tf.reshape(levels, tf.concat([shape[:-1], [draws * _BYTES_PER_DRAW]], axis=0))
    kept = levels[..., : shape[-1]] >= tf.constant(dropped, tf.uint8)
    return tf.cast(kept, tf.float32) * (_LEVELS / (_LEVELS - dropped))
