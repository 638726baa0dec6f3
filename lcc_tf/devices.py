"""Use of all GPUs of a machine."""

from collections.abc import Callable

import tensorflow as tf


def local_strategy() -> tf.distribute.Strategy:
    """Returns `MirroredStrategy` for several GPUs, otherwise TensorFlow's default strategy.

    A single GPU does not need `MirroredStrategy`. With this strategy, Keras does not use XLA.
    """
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def on_all_replicas(
    function: Callable[[tf.Tensor], tf.Tensor], strategy: tf.distribute.Strategy
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Divides each batch among the replicas of a strategy.

    Args:
        function: function of a batch of images, which returns one result per image. Its variables
            must be created in the scope of the strategy.
        strategy: the strategy. With a single replica, or with replicas on several machines,
            `function` is returned.

    Returns:
        Function with the same results, for use inside `tf.function`. If the number of images is not
        divisible by the number of replicas, the last image is predicted several times.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or replicas != len(strategy.extended.worker_devices):
        return function

    def divided(images: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        size = (count + replicas - 1) // replicas
        indices = tf.minimum(tf.range(size * replicas), count - 1)

        def predict_part() -> tf.Tensor:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return function(tf.gather(images, indices[replica * size : (replica + 1) * size]))

        parts = strategy.experimental_local_results(strategy.run(predict_part))
        return tf.concat(parts, axis=0)[:count]

    return divided
