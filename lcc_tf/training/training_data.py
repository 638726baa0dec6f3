"""Batches for training and validation."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.bands import Bands
from lcc_tf.class_weights import class_weights_from_pixels
from lcc_tf.config import MAX_CROPS, TrainConfig
from lcc_tf.data.framing import RandomCrops
from lcc_tf.data.memory import available_memory
from lcc_tf.data.pipeline import (
    WHOLE,
    Part,
    evaluation_batches,
    split_size,
    steps_per_epoch,
    training_batches,
    training_image_ids,
)
from lcc_tf.data.statistics import class_pixels, image_pixels
from lcc_tf.training.label_rules import LabelRules

# Decoded training images are kept in memory if they need at most this fraction of the free memory.
CACHE_SHARE = 0.25
# The default of `crops_per_image` is chosen so that an epoch has at least this number of steps.
# With 50 steps, validation and checkpoint need a small part of the time of an epoch.
MIN_STEPS = 50


@dataclass(frozen=True)
class TrainingData:
    """Batches of a prepared data set for training and validation.

    Args:
        builder: builder of a prepared data set.
        image_size: side of the images that the network receives, pixels.
        batch_size: images per batch, summed over all replicas.
        crops: settings of random crops of the training images; None to train on whole, resized
            images.
        seed: random seed of the image order, the crops and the augmentation.
        bands: bands of the images; None for RGB in [0, 255].
        part: part of each batch that this machine produces.

    Raises:
        InputError: the training split has fewer images or crops than a batch, or the validation
            split is empty.
    """

    builder: tfds.core.DatasetBuilder
    image_size: int
    batch_size: int
    crops: RandomCrops | None
    seed: int
    bands: Bands | None = None
    part: Part = WHOLE

    def __post_init__(self) -> None:
        steps_per_epoch(self.builder, self.batch_size, self.crops)
        split_size(self.builder, "validation")

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the training split."""
        return steps_per_epoch(self.builder, self.batch_size, self.crops)

    @property
    def validation_steps(self) -> int:
        """Number of batches in one pass over the validation split."""
        per_image = 4 if self.crops else 1
        return -(-split_size(self.builder, "validation") * per_image // self.batch_size)

    def image_ids(self, epoch: int, step: int) -> list[str]:
        """Returns the ids of the images of a training step.

        Args:
            epoch: epoch, counted from 0.
            step: step of the epoch, counted from 0.
        """
        return training_image_ids(
            self.builder,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            step=step,
            crops=self.crops,
        )

    def training_batches(self, first_epoch: int = 0, first_step: int = 0) -> tf.data.Dataset:
        """Returns an endless sequence of shuffled, augmented batches.

        `lcc_tf.data.pipeline.training_batches` describes the batches.

        Args:
            first_epoch: epoch of the first batch, counted from 0.
            first_step: step of this epoch with which the batches start, counted from 0.
        """
        return training_batches(
            self.builder,
            image_size=self.image_size,
            batch_size=self.batch_size,
            seed=self.seed,
            first_epoch=first_epoch,
            first_step=first_step,
            crops=self.crops,
            bands=self.bands,
            cache=self._decoded_bytes() <= CACHE_SHARE * available_memory(),
            part=self.part,
        )

    def _decoded_bytes(self) -> int:
        """Returns the memory for all decoded training images and masks, bytes."""
        feature = self.builder.info.features["image"]
        channels = feature.shape[-1]
        if self.crops:
            # One number per channel, and 1 byte for the class id
            pixel = channels * np.dtype(feature.np_dtype).itemsize + 1
            return pixel * int(image_pixels(self.builder).sum())
        # After resizing, each channel and the class id need 4 bytes.
        return 4 * (channels + 1) * self.image_size**2 * split_size(self.builder, "train")

    def validation_batches(self) -> tf.data.Dataset:
        """Returns the batches of one pass over the validation split.

        If training uses random crops, validation uses four fixed crops per image. Otherwise,
        validation uses whole, resized images. The last batch is filled up with images that losses
        and metrics ignore, for two reasons:

        - Convolutions on the CPU fail if a replica receives no image.
        - Each batch has the same weight in `val_loss`, as in the original PyTorch notebooks.
        """
        return evaluation_batches(
            self.builder,
            "validation",
            image_size=self.image_size,
            batch_size=self.batch_size,
            quarters=self.crops is not None,
            fill_up=True,
            part=self.part,
        )


def training_data_of(
    config: TrainConfig,
    builder: tfds.core.DatasetBuilder,
    rules: LabelRules,
    bands: Bands | None = None,
    part: Part = WHOLE,
) -> TrainingData:
    """Returns the training and validation batches of a configuration.

    Raises:
        InputError: see `TrainingData`.
    """
    return TrainingData(
        builder,
        image_size=config.image_size,
        batch_size=config.batch_size,
        crops=crops_of(config, builder, rules),
        seed=config.seed,
        bands=bands,
        part=part,
    )


def crops_of(
    config: TrainConfig, builder: tfds.core.DatasetBuilder, rules: LabelRules
) -> RandomCrops | None:
    """Returns the random crops of a configuration, or None for training on whole images."""
    if config.framing == "whole":
        return None
    rarity = np.zeros(rules.num_classes)
    if config.rare_class_share:
        rarity = class_weights_from_pixels(
            class_pixels(builder), "inverse_frequency", ignore_class=rules.ignore_class
        )
    return RandomCrops(
        config.crop_scale,
        config.rare_class_share,
        rarity.astype(np.float32),
        config.crops_per_image or crops_per_image_of(config, builder),
    )


def crops_per_image_of(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> int:
    """Returns the default number of crops per image and epoch.

    An epoch should have at least `MIN_STEPS` steps, because each epoch ends with a validation and a
    checkpoint.
    """
    wanted = math.ceil(MIN_STEPS * config.batch_size / split_size(builder, "train"))
    return min(wanted, MAX_CROPS)
