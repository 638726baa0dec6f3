"""Which `tf.distribute` strategy a machine gets, and what a model needs under it."""

import keras
import tensorflow as tf

from lcc_tf.errors import InputError


def choose_strategy() -> tf.distribute.Strategy:
    """`MirroredStrategy` for several GPUs, TensorFlow's default one for a single GPU or the CPU.

    A single GPU gets no `MirroredStrategy`, since Keras compiles with XLA only without one.
    """
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """What a strategy trains on, in words."""
    count = len(tf.config.list_physical_devices("GPU"))
    if strategy.num_replicas_in_sync > 1:
        return f"{strategy.num_replicas_in_sync} replicas"
    if count:
        return "one GPU"
    return "the CPU (no GPU was found; TF_CPP_MIN_LOG_LEVEL=0 shows why)"


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Checks that each replica gets the same number of images.

    Args:
        batch_size: global, images a step.
        strategy: shares each batch among its replicas.

    Raises:
        InputError: the batch cannot be shared evenly.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            f"The batch size counts the images of all {replicas} devices together and must be "
            f"divisible by their number. Received: batch_size={batch_size}. "
            f"Use {-(-batch_size // replicas) * replicas}."
        )


def check_xla(xla: str, strategy: tf.distribute.Strategy) -> None:
    """Checks that the steps can be compiled as asked for.

    Args:
        xla: "auto", "on" or "off".
        strategy: what trains.

    Raises:
        InputError: XLA is asked for with several replicas, whose variables it cannot read.
    """
    if xla == "on" and strategy.num_replicas_in_sync > 1:
        raise InputError(
            "XLA compiles steps for one device. Received: xla='on' with "
            f"{strategy.num_replicas_in_sync} replicas. Use 'auto', or make one GPU visible by "
            "CUDA_VISIBLE_DEVICES=0."
        )


def synchronize_batch_norm(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Makes batch normalisation take its statistics over all replicas.

    The share of a batch that one GPU holds is often too small for statistics of its own.

    Args:
        model: changed in place, its nested models too.
        strategy: nothing is changed where it has one replica.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
