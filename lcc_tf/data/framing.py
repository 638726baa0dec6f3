"""Square images from encoded examples: the whole image, a random crop, or four fixed crops.

Images are resized bilinearly, masks with nearest neighbor. An encoded example has "image", a JPEG
or PNG file, and "segmentation_mask", a PNG file; both are string scalars.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from lcc_tf.data.decoding import decode_image, decode_mask, decode_window
from lcc_tf.reflect_padding import reflect_indices


def decode(
    example: dict[str, tf.Tensor], image_size: int, encoding: str = "jpeg"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an example and resizes it to a square, as the original did.

    Args:
        example: an encoded example.
        image_size: side of the square, pixels.
        encoding: of the image, "jpeg" or "png".

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
    mask = tf.cast(tf.image.resize(mask, size, method="nearest")[..., 0], tf.int32)
    return tf.ensure_shape(image, (*size, 3)), tf.ensure_shape(mask, size)


@dataclass(frozen=True, eq=False)  # tf.data needs a hash, here by identity
class RandomCrops:
    """Random crops of training images.

    Args:
        scale: smallest and largest scale, drawn uniformly on a logarithmic scale. A scale of 2
            upsamples a crop of half the size.
        rare_class_share: fraction of crops with a pixel of a class that is drawn from the image's
            classes by `class_rarity`. All other crops are at random positions.
        class_rarity: float32 `(num_classes,)`, relative frequency of drawing each class. A class of
            0 is never drawn.

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

    def __call__(
        self,
        example: dict[str, tf.Tensor],
        image_size: int,
        seed: tf.Tensor,
        encoding: str = "jpeg",
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns one random crop of an example.

        A crop larger than the image is the whole image, reflect-padded as tiles in prediction.

        Args:
            example: an encoded example.
            image_size: side of the result, pixels.
            seed: int64 `(2,)`; equal seeds return equal crops.
            encoding: of the image, "jpeg" or "png".

        Returns:
            Image, float32 `(image_size, image_size, 3)`, RGB in [0, 255]; mask, int32
            `(image_size, image_size)`, class ids.
        """
        seeds = tf.unstack(tf.random.split(seed, 5), num=5)
        mask = decode_mask(example["segmentation_mask"])
        sides = tf.shape(mask)
        logarithm = tf.random.stateless_uniform([], seeds[0], *np.log(self.scale))
        side = tf.cast(tf.round(image_size / tf.exp(logarithm)), tf.int32)
        room = tf.maximum(sides - side, 0)
        anywhere = tf.random.stateless_uniform([2], seeds[1])
        corner = tf.cast(anywhere * tf.cast(room + 1, tf.float32), tf.int32)
        if self.rare_class_share:
            pixel, found = self._rare_pixel(mask, seeds[2:4])
            within = tf.cast(
                tf.random.stateless_uniform([2], seeds[1]) * tf.cast(side, tf.float32), tf.int32
            )
            aimed = found & (tf.random.stateless_uniform([], seeds[4]) < self.rare_class_share)
            corner = tf.where(aimed, pixel - within, corner)
        corner = tf.clip_by_value(corner, 0, room)
        return crop(example, mask, corner, side, image_size, encoding)

    def _rare_pixel(self, mask: tf.Tensor, seeds: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns row and column of a random pixel of a random class, and if one can be drawn."""
        # Every fourth row and column needs only a sixteenth of the random numbers.
        step = 4
        mask = tf.cast(mask[::step, ::step], tf.int32)
        num_classes = len(self.class_rarity)
        counts = tf.math.bincount(
            tf.reshape(mask, [-1]), minlength=num_classes, maxlength=num_classes
        )
        chances = tf.where(counts > 0, self.class_rarity, 0.0)
        chosen = tf.random.stateless_categorical(tf.math.log(chances)[None], 1, seeds[0])[0, 0]
        noise = tf.random.stateless_uniform(tf.shape(mask), seeds[1])
        noise = tf.where(tf.equal(mask, tf.cast(chosen, tf.int32)), noise, -1.0)
        place = tf.argmax(tf.reshape(noise, [-1]), output_type=tf.int32)
        width = tf.shape(mask)[1]
        return tf.stack([place // width, place % width]) * step, tf.reduce_sum(chances) > 0


def crop(
    example: dict[str, tf.Tensor],
    mask: tf.Tensor,
    corner: tf.Tensor,
    side: tf.Tensor,
    image_size: int,
    encoding: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a square crop of an example, reflect-padded beyond the image, and resized.

    Args:
        example: an encoded example, of which only "image" is decoded.
        mask: uint8 `(height, width)`, class ids.
        corner: int32 `(2,)`, first row and column, pixels.
        side: int32 scalar, side of the crop, pixels.
        image_size: side of the result, pixels.
        encoding: of the image, "jpeg" or "png".

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
    """Returns four crops of an example: one around the center of each quarter.

    Args:
        example: an encoded example.
        image_size: side of each crop, pixels.
        encoding: of the image, "jpeg" or "png".

    Returns:
        Images, float32 `(4, image_size, image_size, 3)`, RGB in [0, 255]; masks, int32
        `(4, image_size, image_size)`, class ids.
    """
    mask = decode_mask(example["segmentation_mask"])
    sides = tf.shape(mask)
    room = tf.maximum(sides - image_size, 0)
    crops = []
    for quarter in ([1, 1], [1, 3], [3, 1], [3, 3]):
        corner = tf.clip_by_value(sides * quarter // 4 - image_size // 2, 0, room)
        crops.append(crop(example, mask, corner, image_size, image_size, encoding))
    images, masks = zip(*crops, strict=True)
    return tf.stack(images), tf.stack(masks)
