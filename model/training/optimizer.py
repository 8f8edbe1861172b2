"""Adam whose step on an embedding table touches only the rows in the batch."""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("mind")
class LazyAdam(tf.keras.optimizers.Adam):
    """Adam with row-sparse updates for gathered embeddings.

    Keras' Adam decays the moments of the whole table at every step, so that its cost
    grows with the catalogue. Here, a row without a gradient keeps its moments and its
    value, and rows with one get Adam's usual update. No optimizer of TensorFlow, Keras
    or TFRS does this. LazyAdam of TensorFlow Addons did, but that package is retired.

    Example:
      >>> table = tf.Variable(tf.ones([3, 2]))
      >>> with tf.GradientTape() as tape:
      ...     loss = tf.reduce_sum(tf.gather(table, [1]))
      >>> _ = LazyAdam(0.1).apply_gradients([(tape.gradient(loss, table), table)])
      >>> print(table.numpy().round(2))
      [[1.  1. ]
       [0.9 0.9]
       [1.  1. ]]
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Applies one gradient, in which Keras has already summed duplicate rows."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        momentum, velocity = self.moments(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        learning_rate = tf.cast(self.learning_rate, variable.dtype)
        beta_1 = tf.cast(self.beta_1, variable.dtype)
        beta_2 = tf.cast(self.beta_2, variable.dtype)
        rate = learning_rate * tf.sqrt(1.0 - tf.pow(beta_2, step)) / (1.0 - tf.pow(beta_1, step))
        rows, values = gradient.indices, gradient.values
        new_momentum = beta_1 * tf.gather(momentum, rows) + (1.0 - beta_1) * values
        new_velocity = beta_2 * tf.gather(velocity, rows) + (1.0 - beta_2) * tf.square(values)
        momentum.scatter_update(tf.IndexedSlices(new_momentum, rows))
        velocity.scatter_update(tf.IndexedSlices(new_velocity, rows))
        update = rate * new_momentum / (tf.sqrt(new_velocity) + self.epsilon)
        variable.scatter_sub(tf.IndexedSlices(update, rows))

    def moments(self, variable: tf.Variable) -> tuple[tf.Variable, tf.Variable]:
        """Returns the first and second moments of a variable that the optimizer was built for."""
        index = self._index_dict[self._var_key(variable)]
        return self._momentums[index], self._velocities[index]
