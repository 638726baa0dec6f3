"""Measurement of the batch sizes that fit into the memory of the devices."""

import resource
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.bands import Bands
from lcc_tf.config import TrainConfig
from lcc_tf.data.memory import available_memory, resident_memory
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.optimizer import averaging_optimizer
from lcc_tf.training.phases import phases_of

# Largest result of `largest_batch_size`. For larger batches, the default learning rate is not
# suitable.
LARGEST = 32
# Fraction of the memory that the next batch size may need on a CPU. On a CPU, a batch that is too
# large raises no error: Linux kills the process.
CPU_SHARE = 0.8


def largest_batch_size(
    config: TrainConfig,
    rules: LabelRules,
    strategy: tf.distribute.Strategy,
    bands: Bands | None,
    max_images: int,
) -> int:
    """Measures the largest batch size that fits into the memory of the devices.

    The batch sizes are 1, 2, 4, 8, 16 and 32 images, multiplied by the number of devices as far as
    the product is at most 32. For each batch size, the network trains one step on random images.

    Args:
        config: configuration of the training. The batch size in it is not used.
        rules: number of classes, ignored class and class weights.
        strategy: strategy of the training.
        bands: bands of the images; None for RGB.
        max_images: maximum number of images per step. The result is larger only if this maximum is
            smaller than the number of devices.

    Returns:
        Number of images per step, summed over all devices.
    """
    print("measuring the largest batch size that fits into the memory")
    with strategy.scope():
        model = build_network(
            config, rules.num_classes, pretrained=False, bands=bands, strategy=strategy
        )
        # The last phase trains the most layers. It therefore needs the most memory.
        compile_for(phases_of(config)[-1], model, config, rules, steps_per_epoch=1)
    replicas = strategy.num_replicas_in_sync
    largest, used = replicas, _used_memory()
    for size in _doubled(replicas, min(LARGEST, max_images)):
        if not fits(model, size, config.image_size):
            break
        largest, before, used = size, used, _used_memory()
        # This batch has half of `size` more images than the batch before. The next batch has
        # `size` more images than this batch, and therefore needs about twice as much more memory.
        if not tf.config.list_physical_devices("GPU") and (
            used + 2 * (used - before) > CPU_SHARE * (available_memory() + resident_memory())
        ):
            break
    print(f"batch size {largest}")
    keras.backend.clear_session()
    return largest


def smaller_batch_size(model: keras.Model, batch_size: int, image_size: int) -> int | None:
    """Measures the largest batch size that fits, after a step that did not fit.

    Args:
        model: compiled model. Its weights change.
        batch_size: number of images of the step that did not fit.
        image_size: side of the images, pixels.

    Returns:
        The largest power of two below `batch_size`, multiplied by the number of devices, that
        fits. None if no batch size fits.
    """
    replicas = model.distribute_strategy.num_replicas_in_sync
    sizes = [*_doubled(replicas, batch_size - 1)]
    return next((size for size in reversed(sizes) if fits(model, size, image_size)), None)


def fits(model: keras.Model, batch_size: int, image_size: int) -> bool:
    """Trains a model for one step on random images, and returns True if the memory is sufficient.

    Args:
        model: compiled model. Its weights change.
        batch_size: number of images, summed over all devices.
        image_size: side of the images, pixels.
    """
    start = time.monotonic()
    shape = (batch_size, image_size, image_size, model.input_shape[-1])
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    masks = np.zeros(shape[:3], np.int32)
    batch = tf.data.Dataset.from_tensors((images, (masks,) * len(model.outputs)))
    if len(model.outputs) == 1:
        batch = batch.map(lambda images, masks: (images, masks[0]))
    # The step that updates the weights needs the most memory.
    batch = batch.repeat(averaging_optimizer(model).gradient_accumulation_steps or 1)
    try:
        model.fit(batch, epochs=1, shuffle=False, verbose=0)
    except tf.errors.ResourceExhaustedError:
        print(f"  {batch_size} images per step: too little memory")
        return False
    print(f"  {batch_size} images per step: {time.monotonic() - start:.0f} s with the compilation")
    return True


def _doubled(first: int, limit: int) -> Iterator[int]:
    """Yields `first`, twice `first`, and so on, up to `limit`."""
    size = first
    while size <= limit:
        yield size
        size *= 2


def _used_memory() -> int:
    """Returns the largest memory that this process has used so far, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
