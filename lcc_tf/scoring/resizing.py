"""Resizing of images, masks and probabilities to the size at which they are scored."""

import numpy as np
import tensorflow as tf


def resize_example(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image (bilinear) and its mask (nearest neighbor) in the same way as in training.

    Args:
        image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].
        mask: integer `(height, width)`, class ids.
        size: new height and width, pixels.

    Returns:
        The image, float32 `(*size, 3)`, and the mask, `(*size)`, with the dtype of `mask`.
    """
    image = tf.image.resize(image, size, method="bilinear")
    mask = tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
    return image.numpy(), mask.numpy()


def resized_rows(x: np.ndarray, size: tuple[int, int], rows: slice) -> np.ndarray:
    """Computes some rows of `tf.image.resize(x, size, "bilinear")`.

    Args:
        x: float32 `(height, width, channels)`.
        size: new height and width, pixels.
        rows: slice of rows of the resized map, with a start and a stop. The step is optional.

    Returns:
        The rows of the resized map, float32 `(number of rows, new width, channels)`.
    """
    row_ids = np.arange(rows.start, rows.stop, rows.step)
    for axis, positions in enumerate((row_ids, np.arange(size[1]))):
        length = x.shape[axis]
        if length == size[axis]:
            x = x if axis else x[rows]
            continue
        # Pixel i has its center at i + 0.5. A position between the image border and the center of
        # the first or last pixel has the value of this pixel.
        source = ((positions + 0.5) * (length / size[axis]) - 0.5).clip(0, length - 1)
        low = source.astype(np.int64)
        fraction = (source - low).astype(np.float32)
        fraction = fraction.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = x.take(low, axis), x.take(np.minimum(low + 1, length - 1), axis)
        x = below + (above - below) * fraction
    return x
