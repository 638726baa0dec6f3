"""Choice of the `tf.distribute` strategy, and everything that depends on the strategy.

A replica is the copy of a model on one device. A worker is one process of a training on several
machines, see `lcc_tf.training.cluster`.
"""

import contextlib
import json
import re
import signal
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from lcc_tf.devices import local_strategy
from lcc_tf.errors import InputError, LostWorkerError
from lcc_tf.models.layers import all_layers
from lcc_tf.training.cluster import Cluster
from lcc_tf.training.rendezvous import wait_for_all


def choose_strategy(cluster: Cluster) -> tf.distribute.Strategy:
    """Returns the strategy for several machines, several GPUs or one device.

    Args:
        cluster: workers of the training. With several workers, call this function before the first
            operation of TensorFlow. The function then waits until all workers have started.

    Raises:
        InputError: see `wait_for_all`.
    """
    if cluster.size > 1:
        return _strategy_of_workers(cluster)
    return local_strategy()


def _strategy_of_workers(cluster: Cluster) -> tf.distribute.MultiWorkerMirroredStrategy:
    wait_for_all(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    handler = signal.getsignal(signal.SIGTERM)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    if threading.current_thread() is threading.main_thread():
        # Restore the handler, because the coordination service of TensorFlow has replaced it.
        signal.signal(signal.SIGTERM, handler)
    return strategy


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns True if a strategy trains on several machines."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def check_agreement(
    strategy: tf.distribute.Strategy, cluster: Cluster, facts: Mapping[str, object]
) -> None:
    """Checks that all workers train the same network in the same way.

    Otherwise, the workers would wait for each other forever, or average unrelated gradients.

    Args:
        strategy: strategy of the training.
        cluster: workers of the training.
        facts: values to compare. Key: description of a value, such as "options". Value: object
            whose JSON text is the same on all machines if the machines agree.

    Raises:
        InputError: a value differs between workers. All workers raise the error.
    """
    if not is_multi_worker(strategy):
        return
    hashes = [zlib.crc32(json.dumps(fact, default=str).encode()) for fact in facts.values()]
    by_worker = strategy.gather(tf.constant([hashes], tf.int64), axis=0).numpy()
    for name, column in zip(facts, by_worker.T, strict=True):
        others = [index for index, value in enumerate(column) if value != column[0]]
        if others:
            raise InputError(
                f"All workers must have the same {name}. Received: other {name} at worker "
                f"{', '.join(map(str, others))} than at worker 0. Start train.py with the same "
                "options and packages on all machines. The `workdir` must be on a file system that "
                "all machines share."
            )


def at_any_worker(flags: Sequence[bool], strategy: tf.distribute.Strategy) -> list[bool]:
    """Returns, for each flag, True if the flag is True at one worker or more.

    All workers must call this function at the same time.

    Args:
        flags: values of this worker.
        strategy: strategy of the training. Without several machines, `flags` are returned.
    """
    if not is_multi_worker(strategy):
        return [*flags]
    by_worker = strategy.gather(tf.constant([flags], tf.int64), axis=0).numpy()
    return [bool(flag) for flag in by_worker.any(axis=0)]


@contextlib.contextmanager
def naming_lost_workers(cluster: Cluster) -> Iterator[None]:
    """Context manager that names the lost worker if the connection to a worker ends.

    If a worker is lost, the chief notices the loss after 10 seconds without a message from the
    worker. If the chief is lost, the other workers notice the loss at once. The error of TensorFlow
    can occur in any operation.

    Raises:
        LostWorkerError: a worker has ended or cannot be reached.
    """
    try:
        yield
    except tf.errors.OpError as error:
        text = str(error)
        tasks = [int(task) for task in re.findall(r"/task:(\d+)", text.split("unhealthy")[-1])]
        lost = sorted({task for task in tasks if task < cluster.size} - {cluster.index})
        if cluster.size == 1 or not lost:
            raise
        names = ", ".join(f"{index} ({cluster.workers[index]})" for index in lost)
        raise LostWorkerError(
            f"Worker {names} has ended or cannot be reached. Worker {cluster.index} therefore "
            "ends, too. The output of the lost worker tells the reason. Start all workers again "
            "with `resume=True`, to continue after the last checkpoint."
        ) from error


def adapt_to_workers(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Changes a model so that `fit` works on several machines.

    Keras 3.15 does not support `MultiWorkerMirroredStrategy`
    (https://github.com/keras-team/keras/issues/20585), for two reasons:

    - Before the first step, Keras builds the metrics from one batch. Keras converts the batch to a
      tensor, which fails, because the batch is distributed. Here, Keras receives the part of the
      first local replica. Keras builds the metrics in the private method `_maybe_symbolic_build`.
      If Keras renames this method, the original error returns.
    - Keras averages the logs of all replicas along the first axis of the logs. Scalars have no
      axis, so that the average fails. Therefore, the changed steps return each log as an array of
      one number. After an epoch, Keras reads the scores from the metrics and not from these logs.

    `test_keras_still_needs_the_patches` fails when Keras no longer needs these changes.

    Args:
        model: model to change in place.
        strategy: strategy of the training. Without several machines, the model does not change.
    """
    if not is_multi_worker(strategy):
        return
    build, train_step, test_step = (
        model._maybe_symbolic_build,
        model.train_step,
        model.test_step,
    )

    def build_from_local_part(iterator: Any = None, data_batch: Any = None) -> None:
        for _, _, batches in iterator or ():
            data_batch = tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], next(batches)
            )
            break
        build(data_batch=data_batch)

    def with_axis(logs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}

    model._maybe_symbolic_build = build_from_local_part
    model.train_step = lambda data: with_axis(train_step(data))
    model.test_step = lambda data: with_axis(test_step(data))


def distribute(
    batches: tf.data.Dataset, batch_size: int, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Distributes the batches of this worker over its devices.

    On several machines, each worker only produces its own part of each batch. TensorFlow must not
    divide the batches again. On one machine, `fit` divides the batches.

    Args:
        batches: the batches. On several machines, the part of each batch for this worker.
        batch_size: number of images per step, summed over all replicas.
        strategy: strategy of the training.
    """
    if not is_multi_worker(strategy):
        return batches
    if len(strategy.extended.worker_devices) > 1:
        per_replica = batch_size // strategy.num_replicas_in_sync
        batches = batches.rebatch(per_replica, drop_remainder=True)
    return strategy.distribute_datasets_from_function(lambda context: batches)


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """Returns the devices of a strategy in words, such as "one GPU"."""
    count = len(tf.config.list_physical_devices("GPU"))
    if strategy.num_replicas_in_sync > 1:
        return f"{strategy.num_replicas_in_sync} replicas"
    if count:
        return "one GPU"
    return "the CPU (no GPU was found; set TF_CPP_MIN_LOG_LEVEL=0 to see the reason)"


def check_batch_size(batch_size: int | None, strategy: tf.distribute.Strategy) -> None:
    """Checks that all replicas train on the same number of images per step.

    Args:
        batch_size: images per step, summed over all replicas. None if it will be measured.
        strategy: strategy of the training.

    Raises:
        InputError: the batch size is not divisible by the number of replicas, or it is None on
            several machines.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size is None:
        if is_multi_worker(strategy):
            raise InputError(
                "On several machines, the batch size cannot be measured. Received: "
                f"batch_size='auto'. Use a number that is divisible by {replicas}."
            )
        return
    if batch_size % replicas:
        raise InputError(
            "`batch_size` is the number of images per step, summed over all "
            f"{replicas} devices. It must be divisible by {replicas}. "
            f"Received: batch_size={batch_size}. "
            f"Use {-(-batch_size // replicas) * replicas}."
        )


def check_accumulation(accumulate: int, strategy: tf.distribute.Strategy) -> None:
    """Checks that a strategy can accumulate gradients over several steps.

    Raises:
        InputError: `accumulate` is larger than 1, and the strategy copies variables to devices.
            Keras 3.15 updates the variables inside a condition (`tf.cond`), which is impossible
            with such a strategy.
    """
    mirrored = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    if accumulate > 1 and isinstance(strategy, mirrored):
        raise InputError(
            "Gradients can be accumulated on a single device only. Received: "
            f"accumulate={accumulate} with a {type(strategy).__name__}. Use a larger "
            "`batch_size`, which is distributed over the devices, or set CUDA_VISIBLE_DEVICES=0, "
            "so that only one GPU is visible."
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
