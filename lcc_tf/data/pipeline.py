"""Batches from the TFRecords of a prepared data set.

The images have their original values, because the model itself contains the preprocessing for the
encoder.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from lcc_tf.bands import Bands
from lcc_tf.data.augmentation import augment
from lcc_tf.data.decoding import band_ranges, decode_image, decode_mask, image_encoding
from lcc_tf.data.framing import RandomCrops, decode, quarters_of
from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH

# Number of encoded examples in the shuffle buffer. They need some hundred megabytes of memory, at 1
# to 3 MB per example. A larger buffer is not needed, because the examples in the TFRecords are
# already in random order.
SHUFFLE_BUFFER = 256


@dataclass(frozen=True)
class Part:
    """Part of each batch that one of several machines produces.

    The first machine produces the first images of each batch. The batches of all machines together
    therefore do not depend on the number of machines.

    Attributes:
        index: position of the machine, counted from 0.
        count: number of machines; it must divide the batch size.

    Example:
        >>> examples = tf.data.Dataset.range(8).enumerate()
        >>> [int(example) for _, example in Part(index=1, count=2).of(examples, batch_size=4)]
        [2, 3, 6, 7]
    """

    index: int = 0
    count: int = 1

    def of(self, enumerated: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        """Returns the examples of the part.

        Args:
            enumerated: pairs of a position, int64, and an example.
            batch_size: number of examples per batch, summed over all machines.
        """
        if self.count == 1:
            return enumerated
        return enumerated.filter(lambda position, *example: self._has(position, batch_size))

    def _has(self, position: tf.Tensor, batch_size: int) -> tf.Tensor:
        return tf.equal(position % batch_size // (batch_size // self.count), self.index)


WHOLE = Part()


def split_size(builder: tfds.core.DatasetBuilder, split: str) -> int:
    """Returns the number of images in a split.

    Raises:
        InputError: The split is empty or does not exist.
    """
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    if not sizes.get(split):
        raise InputError(
            f"The split {split!r} of the data set has no images. Images per split: {sizes}. "
            "Add images, or prepare the data set with split lists that contain images for this "
            "split."
        )
    return sizes[split]


def steps_per_epoch(
    builder: tfds.core.DatasetBuilder, batch_size: int, crops: RandomCrops | None = None
) -> int:
    """Returns the number of complete batches in an epoch of the training split.

    Args:
        builder: builder of a prepared data set.
        batch_size: number of images per batch, summed over all replicas.
        crops: random crops; None for training on whole images.

    Raises:
        InputError: The training split has fewer images or crops than one batch.
    """
    num_images = split_size(builder, "train") * (crops.per_image if crops else 1)
    if num_images < batch_size:
        raise InputError(
            f"The training split has {num_images} images, fewer than one batch. Received: "
            f"batch_size={batch_size}. Use a `batch_size` of at most {num_images}."
        )
    return num_images // batch_size


def encoded_examples(builder: tfds.core.DatasetBuilder, split: str) -> tf.data.Dataset:
    """Returns the encoded examples of a split, in the order of the TFRecords.

    Args:
        builder: builder of a prepared data set.
        split: "train", "validation" or "test".

    Returns:
        Data set of dictionaries with the keys "image" and "segmentation_mask" (contents of files)
        and "id". The values are string scalars. If the encoding of the images is "raw", "image" is
        the decoded image. In float32 images, nodata pixels have the smallest value of the same band
        in the training images. In integer images, nodata pixels have the smallest value of the
        dtype.
    """
    is_raw = image_encoding(builder) == "raw"
    decoders = {"segmentation_mask": tfds.decode.SkipDecoding()}
    if not is_raw:
        decoders["image"] = tfds.decode.SkipDecoding()
    with _hidden_warnings():
        examples = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
    # Data sets that are made from `examples`, for example with `map`, have the same options.
    examples = _without_autotuning(examples)
    if not is_raw or builder.info.metadata["bands"]["dtype"] != "float32":
        return examples
    smallest = tf.constant([low for low, _ in band_ranges(builder)["minmax"]], tf.float32)
    return examples.map(
        lambda example: (
            example
            | {"image": tf.where(tf.math.is_nan(example["image"]), smallest, example["image"])}
        )
    )


@contextlib.contextmanager
def _hidden_warnings() -> Iterator[None]:
    """Hides warnings of TFDS about a deprecated attribute that TFDS itself uses."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def training_batches(
    builder: tfds.core.DatasetBuilder,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    first_step: int = 0,
    crops: RandomCrops | None = None,
    bands: Bands | None = None,
    cache: bool = False,
    part: Part = WHOLE,
) -> tf.data.Dataset:
    """Returns an endless data set of shuffled and augmented batches of the training split.

    Order, crops and augmentation depend only on the seed and the number of the epoch. Therefore,
    training that resumes at `first_step` of `first_epoch` has the same batches as training without
    interruption. An epoch has `steps_per_epoch` batches. If the last batch of an epoch is
    incomplete, it is dropped.

    Args:
        builder: builder of a prepared data set.
        image_size: side of the images, pixels.
        batch_size: number of images per batch, summed over all replicas.
        seed: random seed of order, crops and augmentation.
        first_epoch: number of the first epoch, counted from 0.
        first_step: number of the first step in the first epoch, counted from 0.
        crops: random crops. None to resize the whole images.
        bands: bands of the images; None for RGB in [0, 255].
        cache: if True, keeps the decoded (or decoded and resized) images and masks in memory. The
            batches are the same.
        part: part of each batch to produce. The other images of the batch are not decoded, unless
            `cache` is True.

    Returns:
        Batches of images, float32 `(batch, image_size, image_size, channels)`, and masks, int32
        `(batch, image_size, image_size)`, class ids. The channels are RGB in [0, 255], or `bands`
        with their original values.

    Raises:
        InputError: The training split has fewer images or crops than one batch.
    """
    steps_per_epoch(builder, batch_size, crops)
    per_image = crops.per_image if crops else 1
    num_images = split_size(builder, "train") * per_image
    encoding = image_encoding(builder)

    def prepare(index: tf.Tensor, example: dict, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example_seed = tf.stack([seed, epoch * num_images + index])
        if crops:
            # The crop and the augmentation use different seeds, so that they are independent.
            crop_seed = tf.random.fold_in(example_seed, 1)
            image, mask = crops(example, image_size, crop_seed, encoding)
        else:
            image, mask = decode(example, image_size, encoding)
        if not bands:
            return augment(image, mask, example_seed)
        # The augmentation needs values in [0, 255].
        low, high = np.array(bands.ranges, np.float32).T
        image = (tf.clip_by_value(image, low, high) - low) * (255 / (high - low))
        image, mask = augment(image, mask, example_seed)
        return image * ((high - low) / 255) + low, mask

    def decoded(example: dict) -> dict:
        if crops:
            image, mask = (
                decode_image(example["image"], encoding),
                decode_mask(example["segmentation_mask"]),
            )
        else:
            image, mask = decode(example, image_size, encoding)
        return {"image": image, "segmentation_mask": mask}

    all_examples = encoded_examples(builder, "train")
    if cache:
        # All epochs share this cache, because it is not part of `one_epoch`.
        all_examples = all_examples.map(decoded, num_parallel_calls=tf.data.AUTOTUNE).cache()

    @tf.autograph.experimental.do_not_convert
    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        skipped = tf.where(epoch == first_epoch, first_step * batch_size, 0)
        used = (
            _in_random_order(all_examples, per_image, seed, epoch)
            .enumerate()
            .take(num_images // batch_size * batch_size)
            .skip(tf.cast(skipped, tf.int64))
        )
        return (
            part.of(used, batch_size)
            .map(
                lambda index, example: prepare(index, example, epoch),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .batch(batch_size // part.count, drop_remainder=True)
        )

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    # Declare that the batches never end. Otherwise, TensorFlow would ask all machines before each
    # step whether another batch exists.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    # With one device, the first batches are produced while Keras traces the training step. With
    # several devices, TensorFlow 2.21 ignores `experimental_warm_start`.
    early = tf.data.Options()
    early.experimental_warm_start = True
    batches = epochs.flat_map(one_epoch).apply(endless).prefetch(2).with_options(early)
    return _without_autotuning(batches)


def _without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off the autotuning of tf.data.

    Autotuning is a thread that changes how many function calls of `map` run in parallel. When an
    iterator is deleted, TensorFlow 2.21 waits for this thread. Sometimes the thread does not notice
    that the iterator is deleted, and sleeps for up to a minute before it ends. Without autotuning,
    `map` with `num_parallel_calls=tf.data.AUTOTUNE` makes one call per processor core at a time, at
    most 16. The rates are almost the same as with autotuning (docs/performance.md).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def training_image_ids(
    builder: tfds.core.DatasetBuilder,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    step: int,
    crops: RandomCrops | None = None,
) -> list[str]:
    """Returns the ids of the images in a batch of `training_batches`.

    Args:
        builder: builder of a prepared data set.
        batch_size: number of images per batch, summed over all replicas.
        seed: random seed of the order.
        epoch: number of the epoch, counted from 0.
        step: number of the batch in the epoch, counted from 0.
        crops: random crops. None to resize the whole images.
    """
    examples = encoded_examples(builder, "train")

    @tf.autograph.experimental.do_not_convert
    def ids(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _in_random_order(examples, crops.per_image if crops else 1, seed, epoch)
        return order.skip(step * batch_size).take(batch_size).map(lambda example: example["id"])

    dataset = tf.data.Dataset.range(epoch, epoch + 1).flat_map(ids)
    return [image_id.decode() for image_id in dataset.as_numpy_iterator()]


def _in_random_order(
    examples: tf.data.Dataset, per_image: int, seed: int, epoch: tf.Tensor
) -> tf.data.Dataset:
    """Repeats and shuffles the examples of an epoch.

    Call this function only inside a function that `flat_map` receives.
    """
    # `flat_map` builds a graph, and this line sets the seed of the graph. Otherwise, the order
    # would also depend on the global seed of TensorFlow.
    tf.random.set_seed(seed + 1)
    # The crops of an image are far apart in this order. A batch with many crops of the same image
    # would train worse.
    return examples.repeat(per_image).shuffle(
        SHUFFLE_BUFFER, seed=epoch, reshuffle_each_iteration=False
    )


@tf.autograph.experimental.do_not_convert  # converting the functions would take a second
def evaluation_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    image_size: int,
    batch_size: int,
    quarters: bool = False,
    fill_up: bool = False,
    part: Part = WHOLE,
) -> tf.data.Dataset:
    """Returns the batches of a split in the order of the TFRecords, without augmentation.

    Args:
        builder: builder of a prepared data set.
        split: "train", "validation" or "test".
        image_size: side of the images, pixels.
        batch_size: number of images per batch. The last batch may have fewer images.
        quarters: True for four crops per image in the resolution of the image, as returned by
            `quarters_of`. The four crops are enough to compare the scores of epochs. False to
            resize the whole images.
        fill_up: True to add black images to the last batch until it is complete. All pixels of
            their masks are `NO_TRUTH`. Therefore, losses and metrics ignore these images.
        part: part of each batch to produce; a part needs `fill_up=True`.

    Returns:
        Batches with the same structure as the batches of `training_batches`.

    Raises:
        InputError: The split is empty.
    """
    num_images = split_size(builder, split)
    encoding = image_encoding(builder)
    examples = encoded_examples(builder, split)
    if quarters:
        num_images *= 4
        dataset = examples.map(
            lambda example: quarters_of(example, image_size, encoding),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).unbatch()
    else:
        dataset = examples.map(
            lambda example: decode(example, image_size, encoding),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    if fill_up:
        channels = builder.info.features["image"].shape[-1]
        black = (
            tf.zeros((image_size, image_size, channels)),
            tf.fill((image_size, image_size), NO_TRUTH),
        )
        filling = tf.data.Dataset.from_tensors(black).repeat(-num_images % batch_size)
        dataset = dataset.concatenate(filling)
    if part.count > 1:
        dataset = part.of(dataset.enumerate(), batch_size).map(lambda position, example: example)
    # Declare the number of batches. Otherwise, Keras would warn at the end of the first validation.
    known = tf.data.experimental.assert_cardinality(math.ceil(num_images / batch_size))
    batches = dataset.batch(batch_size // part.count, drop_remainder=fill_up)
    return batches.apply(known).prefetch(2)
