"""Augmentation: random changes of image and mask, for training only.

The probabilities are the same as in the original PyTorch notebooks:

- horizontal flip, vertical flip, and rotation by multiples of 90 degrees: 0.5 each,
- brightness and contrast: 0.3,
- noise: 0.2,
- elastic warp: 0.2.

Bands other than RGB are changed like the colors. Therefore, their values must be in [0, 255], too.

The original notebooks do not set the strength of the changes. Therefore, this module defines the
strengths as constants. All random numbers depend only on the seed of the example. Therefore, equal
seeds return equal batches.
"""

import tensorflow as tf

FLIP_PROBABILITY = 0.5
ROT90_PROBABILITY = 0.5
BRIGHTNESS_CONTRAST_PROBABILITY = 0.3
NOISE_PROBABILITY = 0.2
ELASTIC_PROBABILITY = 0.2

BRIGHTNESS_LIMIT = 0.2  # largest change, as a fraction of the range [0, 255]
CONTRAST_LIMIT = 0.2  # largest difference between the contrast factor and 1
NOISE_VARIANCE = (10.0, 50.0)  # smallest and largest variance, in squared 8-bit levels
ELASTIC_CELLS = 6  # cells of the displacement grid, along one side
ELASTIC_STRENGTH = 0.02  # standard deviation of the displacements, as a fraction of the side


def augment(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Augments one example.

    Args:
        image: float32 `(size, size, 3)`, RGB in [0, 255].
        mask: int32 `(size, size)`, class ids.
        seed: random seed, int64 `(2,)`. Equal seeds return equal results.

    Returns:
        Augmented image and mask, with the same shapes, dtypes and ranges as the inputs. The mask is
        flipped, rotated and warped like the image. The augmented mask contains no classes that the
        input mask does not contain.

    Example:
        >>> image, mask = tf.zeros((8, 8, 3)), tf.zeros((8, 8), tf.int32)
        >>> image, mask = augment(image, mask, tf.constant([0, 1], tf.int64))
        >>> image.shape, mask.shape
        (TensorShape([8, 8, 3]), TensorShape([8, 8]))
    """
    # Each change uses its own seeds, so that the changes are independent of each other.
    seeds = tf.unstack(tf.random.split(seed, 12), num=12)

    def coin(index: int, probability: float) -> tf.Tensor:
        return tf.random.stateless_uniform([], seeds[index]) < probability

    image, mask = tf.cond(
        coin(0, FLIP_PROBABILITY),
        lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])),
        lambda: (image, mask),
    )
    image, mask = tf.cond(
        coin(1, FLIP_PROBABILITY),
        lambda: (tf.reverse(image, [0]), tf.reverse(mask, [0])),
        lambda: (image, mask),
    )
    quarters = tf.random.stateless_uniform([], seeds[3], 0, 4, dtype=tf.int32)
    quarters = tf.where(coin(2, ROT90_PROBABILITY), quarters, 0)
    image = tf.image.rot90(image, quarters)
    mask = tf.image.rot90(mask[..., None], quarters)[..., 0]
    image, mask = tf.cond(
        coin(4, ELASTIC_PROBABILITY),
        lambda: elastic(image, mask, seeds[5]),
        lambda: (image, mask),
    )
    image = tf.cond(
        coin(6, BRIGHTNESS_CONTRAST_PROBABILITY),
        lambda: brightness_contrast(image, seeds[7]),
        lambda: image,
    )
    image = tf.cond(
        coin(8, NOISE_PROBABILITY),
        lambda: gaussian_noise(image, seeds[9]),
        lambda: image,
    )
    return image, mask


def brightness_contrast(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Changes brightness and contrast at random.

    Args:
        image: float32 `(height, width, 3)`, RGB in [0, 255].
        seed: random seed, int64 `(2,)`.

    Returns:
        Image with the same shape. Each value is multiplied by a random factor between
        `1 - CONTRAST_LIMIT` and `1 + CONTRAST_LIMIT`. Then a random brightness of at most
        `BRIGHTNESS_LIMIT * 255` is added or subtracted, and the result is clipped to [0, 255].
    """
    change = tf.random.stateless_uniform([2], seed, -1.0, 1.0)
    contrast = 1 + CONTRAST_LIMIT * change[0]
    brightness = BRIGHTNESS_LIMIT * 255 * change[1]
    return tf.clip_by_value(image * contrast + brightness, 0, 255)


def gaussian_noise(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Adds Gaussian noise.

    Args:
        image: float32 `(height, width, 3)`, RGB in [0, 255].
        seed: random seed, int64 `(2,)`.

    Returns:
        Image with noise, clipped to [0, 255]. The variance of the noise is random, in the range
        `NOISE_VARIANCE`.
    """
    seeds = tf.random.split(seed, 2)
    variance = tf.random.stateless_uniform([], seeds[0], *NOISE_VARIANCE)
    noise = tf.random.stateless_normal(tf.shape(image), seeds[1]) * tf.sqrt(variance)
    return tf.clip_by_value(image + noise, 0, 255)


def elastic(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Warps image and mask with the same smooth random displacements.

    The displacements are a coarse random grid, upsampled with cubic interpolation. This is much
    faster than the method of Simard et al. 2003 (https://doi.org/10.1109/ICDAR.2003.1227801), which
    applies a Gaussian filter to random noise. `RandomElasticTransform` of Keras is not used,
    because it would warp image and mask differently.

    Args:
        image: float32 `(height, width, 3)`, RGB in [0, 255].
        mask: int32 `(height, width)`, class ids.
        seed: random seed, int64 `(2,)`.

    Returns:
        Warped image, resampled bilinearly, and warped mask, resampled with nearest neighbor. Image
        and mask are reflect-padded at the borders.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    grid = tf.random.stateless_normal([ELASTIC_CELLS + 1, ELASTIC_CELLS + 1, 2], seed)
    displacement = tf.image.resize(grid, [height, width], method="bicubic") * ELASTIC_STRENGTH
    rows, columns = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    row, top, bottom = _displaced(rows, displacement[..., 0], height)
    column, left, right = _displaced(columns, displacement[..., 1], width)

    # One index per pixel is faster than `tf.gather_nd` with rows and columns.
    pixels, class_ids = tf.reshape(image, [-1, image.shape[-1]]), tf.reshape(mask, [-1])
    down = (row - tf.cast(top, tf.float32))[..., None]
    aside = (column - tf.cast(left, tf.float32))[..., None]

    def in_row(index: tf.Tensor) -> tf.Tensor:
        first, second = (tf.gather(pixels, index * width + i) for i in (left, right))
        return first * (1 - aside) + second * aside

    nearest = tf.cast(tf.round(row), tf.int32) * width + tf.cast(tf.round(column), tf.int32)
    return in_row(top) * (1 - down) + in_row(bottom) * down, tf.gather(class_ids, nearest)


def _displaced(
    index: tf.Tensor, displacement: tf.Tensor, size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Displaces rows or columns, and reflects them at the borders of the image.

    The mirror axes are the centers of the border pixels.

    Args:
        index: rows or columns of the pixels, int32.
        displacement: displacement as a fraction of `size`, float32.
        size: number of rows or columns, int32 scalar.

    Returns:
        Displaced positions, float32; the pixel before each position and the pixel after it, int32.
    """
    last = tf.cast(size - 1, tf.float32)
    position = tf.abs(tf.cast(index, tf.float32) + displacement * tf.cast(size, tf.float32))
    position = tf.clip_by_value(last - tf.abs(last - position), 0.0, last)
    before = tf.cast(tf.floor(position), tf.int32)
    return position, before, tf.minimum(before + 1, size - 1)
