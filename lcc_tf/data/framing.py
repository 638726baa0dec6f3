"""Framing: conversion of images to square network inputs.

There are three kinds of framing: the whole image, resized to a square; a random crop; or four crops
at fixed positions. Images are resized bilinearly, and masks with nearest neighbor.

An encoded example is a dictionary of two string scalars: "image" is the content of a JPEG or PNG
file, and "segmentation_mask" is the content of a PNG file. If the images are not RGB with 8 bits,
"image" is the decoded image, and all results have one channel per band.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from lcc_tf.data.decoding import decode_image, decode_mask, decode_window, with_no_truth
from lcc_tf.reflect_padding import reflect_indices


def decode(
    example: dict[str, tf.Tensor], image_size: int, encoding: str = "jpeg"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an example and resizes the whole image and its mask to a square.

    The original PyTorch notebooks resized the images in the same way.

    Args:
        example: encoded example, or an example whose image and mask are decoded.
        image_size: side of the square, pixels.
        encoding: encoding of the image, "jpeg" or "png".

    Returns:
        Image, float32 `(image_size, image_size, 3)`, RGB in [0, 255]; mask, int32
        `(image_size, image_size)`, class ids.

    Example:
        >>> example = {
        ...     "image": tf.io.encode_png(np.zeros((6, 8, 3), np.uint8)),
        ...     "segmentation_mask": tf.io.encode_png(np.zeros((6, 8, 1), np.uint8)),
        ... }
        >>> image, mask = decode(example, 4, "png")
        >>> image.shape, mask.shape
        (TensorShape([4, 4, 3]), TensorShape([4, 4]))
    """
    image = decode_image(example["image"], encoding)
    mask = decode_mask(example["segmentation_mask"])
    return _resized(image, mask[..., None], image_size)


def _resized(image: tf.Tensor, mask: tf.Tensor, image_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    size = (image_size, image_size)
    image = tf.image.resize(image, size, method="bilinear")
    mask = with_no_truth(tf.image.resize(mask, size, method="nearest")[..., 0])
    return tf.ensure_shape(image, (*size, image.shape[-1])), tf.ensure_shape(mask, size)


@dataclass(frozen=True, eq=False)  # with `eq=False`, instances can be hashed, as tf.data requires
class RandomCrops:
    """Random crops of training images.

    For a fraction of the crops, a class of the image is selected at random, and the crop contains
    at least one pixel of this class. With `class_rarity`, rare classes can be selected more often.
    All other crops are at random positions.

    Args:
        scale: smallest and largest scale factor. The logarithm of the scale factor is uniformly
            distributed. For example, with the factor 2, a crop has half the width and height of the
            network's input, and is upsampled.
        rare_class_share: fraction of the crops for which a class is selected.
        class_rarity: weight of each class, float32 `(num_classes,)`. The probability of selecting a
            class is proportional to the weight of the class. A class with the weight 0 is never
            selected.
        per_image: number of crops of each image in one epoch.

    Example:
        >>> crops = RandomCrops((0.5, 2.0), 0.5, np.ones(7, np.float32))
        >>> example = {
        ...     "image": tf.io.encode_png(np.zeros((6, 8, 3), np.uint8)),
        ...     "segmentation_mask": tf.io.encode_png(np.zeros((6, 8, 1), np.uint8)),
        ... }
        >>> image, mask = crops(example, 4, tf.constant([0, 1], tf.int64), "png")
        >>> image.shape, mask.shape
        (TensorShape([4, 4, 3]), TensorShape([4, 4]))
    """

    scale: tuple[float, float]
    rare_class_share: float
    class_rarity: np.ndarray
    per_image: int = 1

    def __call__(
        self,
        example: dict[str, tf.Tensor],
        image_size: int,
        seed: tf.Tensor,
        encoding: str = "jpeg",
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns one random crop of an example.

        If the crop is larger than the image, the crop contains the whole image and is
        reflect-padded, in the same way as tiles in prediction.

        Args:
            example: encoded example.
            image_size: side of the returned image and mask, pixels.
            seed: random seed, int64 `(2,)`. Equal seeds return equal crops.
            encoding: encoding of the image, "jpeg" or "png".

        Returns:
            Image, float32 `(image_size, image_size, 3)`, RGB in [0, 255]; mask, int32
            `(image_size, image_size)`, class ids.
        """
        seeds = tf.unstack(tf.random.split(seed, 5), num=5)
        mask = decode_mask(example["segmentation_mask"])
        sides = tf.shape(mask)
        logarithm = tf.random.stateless_uniform([], seeds[0], *np.log(self.scale))
        side = tf.cast(tf.round(image_size / tf.exp(logarithm)), tf.int32)
        largest_corner = tf.maximum(sides - side, 0)
        position = tf.random.stateless_uniform([2], seeds[1])
        corner = tf.cast(position * tf.cast(largest_corner + 1, tf.float32), tf.int32)
        if self.rare_class_share:
            pixel, exists = self._rare_pixel(mask, seeds[2:4])
            offset = tf.cast(
                tf.random.stateless_uniform([2], seeds[1]) * tf.cast(side, tf.float32), tf.int32
            )
            use_pixel = tf.random.stateless_uniform([], seeds[4]) < self.rare_class_share
            corner = tf.where(exists & use_pixel, pixel - offset, corner)
        corner = tf.clip_by_value(corner, 0, largest_corner)
        return crop(example, mask, corner, side, image_size, encoding)

    def _rare_pixel(self, mask: tf.Tensor, seeds: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Selects a class of the mask and then a pixel of this class, both at random.

        Returns:
            Row and column of the pixel, int32 `(2,)`, and a bool scalar. The bool scalar is False
            if no class of the mask has a positive weight. In this case, the pixel has no meaning.
        """
        # Use only every fourth row and column, which needs 16 times fewer random numbers.
        step = 4
        mask = tf.cast(mask[::step, ::step], tf.int32)
        num_classes = len(self.class_rarity)
        counts = tf.math.bincount(
            tf.reshape(mask, [-1]), minlength=num_classes, maxlength=num_classes
        )
        weights = tf.where(counts > 0, self.class_rarity, 0.0)
        chosen = tf.random.stateless_categorical(tf.math.log(weights)[None], 1, seeds[0])[0, 0]
        # Of all pixels of the chosen class, select the pixel with the largest random number.
        noise = tf.random.stateless_uniform(tf.shape(mask), seeds[1])
        noise = tf.where(tf.equal(mask, tf.cast(chosen, tf.int32)), noise, -1.0)
        index = tf.argmax(tf.reshape(noise, [-1]), output_type=tf.int32)
        width = tf.shape(mask)[1]
        return tf.stack([index // width, index % width]) * step, tf.reduce_sum(weights) > 0


def crop(
    example: dict[str, tf.Tensor],
    mask: tf.Tensor,
    corner: tf.Tensor,
    side: tf.Tensor,
    image_size: int,
    encoding: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Crops a square from an example and resizes the crop.

    If the crop extends beyond the image, it is reflect-padded.

    Args:
        example: encoded example. Only "image" is decoded.
        mask: decoded mask, class ids, uint8 `(height, width)`.
        corner: first row and first column of the crop, int32 `(2,)`, pixels.
        side: side of the crop before resizing, int32 scalar, pixels.
        image_size: side of the returned image and mask, pixels.
        encoding: encoding of the image, "jpeg" or "png".

    Returns:
        Image, float32 `(image_size, image_size, 3)`, RGB in [0, 255]; mask, int32
        `(image_size, image_size)`, class ids.
    """
    size = tf.minimum(side, tf.shape(mask))
    image = decode_window(example["image"], encoding, corner, size)
    mask = mask[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1], None]
    for axis in (0, 1):
        indices = reflect_indices(tf.range(side), size[axis])
        image, mask = tf.gather(image, indices, axis=axis), tf.gather(mask, indices, axis=axis)
    return _resized(image, mask, image_size)


def quarters_of(
    example: dict[str, tf.Tensor], image_size: int, encoding: str = "jpeg"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns four crops of an example. Each crop is centered in a quarter of the image.

    Args:
        example: encoded example.
        image_size: side of each crop, pixels.
        encoding: encoding of the image, "jpeg" or "png".

    Returns:
        Images, float32 `(4, image_size, image_size, 3)`, RGB in [0, 255]; masks, int32
        `(4, image_size, image_size)`, class ids.
    """
    mask = decode_mask(example["segmentation_mask"])
    sides = tf.shape(mask)
    largest_corner = tf.maximum(sides - image_size, 0)
    crops = []
    for quarter in ([1, 1], [1, 3], [3, 1], [3, 3]):
        corner = tf.clip_by_value(sides * quarter // 4 - image_size // 2, 0, largest_corner)
        crops.append(crop(example, mask, corner, image_size, image_size, encoding))
    images, masks = zip(*crops, strict=True)
    return tf.stack(images), tf.stack(masks)
