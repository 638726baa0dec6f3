"""Choice of the `tf.distribute` strategy, and checks of options that depend on the strategy.

A replica is the copy of a model on one device.
"""

import json
import os

import keras
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models.layers import all_layers


def choose_strategy() -> tf.distribute.Strategy:
    """Returns `MirroredStrategy` for several GPUs, otherwise TensorFlow's default strategy.

    A single GPU does not need `MirroredStrategy`. With this strategy, Keras does not use XLA.

    Raises:
        InputError: the environment variable `TF_CONFIG` describes several machines.
    """
    _check_one_machine()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _check_one_machine() -> None:
    """Verifies that the environment does not describe several machines.

    Without this check, each machine would train its own network in the same run folder.
    """
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        tasks = [task for name in ("chief", "worker") for task in cluster.get(name, [])]
    except (ValueError, AttributeError, TypeError):
        return
    if len(tasks) > 1:
        raise InputError(
            "Training uses the GPUs of one machine only. Received: the environment variable "
            f"TF_CONFIG with {len(tasks)} machines. Remove TF_CONFIG, and start train.py on one "
            "machine."
        )


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """Returns the devices of a strategy in words, such as "one GPU"."""
    count = len(tf.config.list_physical_devices("GPU"))
    if strategy.num_replicas_in_sync > 1:
        return f"{strategy.num_replicas_in_sync} replicas"
    if count:
        return "one GPU"
    return "the CPU (no GPU was found; set TF_CPP_MIN_LOG_LEVEL=0 to see the reason)"


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Checks that all replicas train on the same number of images per step.

    Args:
        batch_size: images per step, summed over all replicas.
        strategy: strategy of the training.

    Raises:
        InputError: the batch size is not divisible by the number of replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise InputError(
            "`batch_size` is the number of images per step, summed over all "
            f"{replicas} devices. It must be divisible by {replicas}. "
            f"Received: batch_size={batch_size}. "
            f"Use {-(-batch_size // replicas) * replicas}."
        )


def check_xla(xla: str, strategy: tf.distribute.Strategy) -> None:
    """Checks that XLA can compile the steps of a strategy.

    Args:
        xla: "auto", "on" or "off".
        strategy: strategy of the training.

    Raises:
        InputError: `xla` is "on" and the strategy has several replicas. XLA cannot read variables
            that are distributed over replicas.
    """
    if xla == "on" and strategy.num_replicas_in_sync > 1:
        raise InputError(
            "XLA compiles steps for a single device only. Received: xla='on' with "
            f"{strategy.num_replicas_in_sync} replicas. Use `xla='auto'`, or set "
            "CUDA_VISIBLE_DEVICES=0, so that only one GPU is visible."
        )


def synchronize_batch_norm(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Makes a model compute the statistics of batch normalization over all replicas.

    A single replica often has too few images for good statistics.

    Args:
        model: model to change in place, including its nested models.
        strategy: strategy of the training. With a single replica, the model does not change.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
