"""Resizing of images, masks and probabilities to the size at which they are scored."""

import numpy as np
import tensorflow as tf


def resize_example(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image bilinearly and its mask to the nearest, as training on whole images does.

    Args:
        image: uint8 `(height, width, 3)`.
        mask: integer `(height, width)`.
        size: new height and width, pixels.

    Returns:
        Image, float32 `(*size, 3)`, and mask, `(*size)`, of the same dtype as before.
    """
    image = tf.image.resize(image, size, method="bilinear")
    mask = tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
    return image.numpy(), mask.numpy()


def resized_rows(x: np.ndarray, size: tuple[int, int], rows: slice) -> np.ndarray:
    """Computes some rows of a bilinearly resized map, equal to rows of `tf.image.resize`.

    Args:
        x: float32 `(height, width, channels)`.
        size: new height and width, pixels.
        rows: rows of the resized map, with start and stop; a step is optional.

    Returns:
        float32 `(rows, new width, channels)`.
    """
    row_ids = np.arange(rows.start, rows.stop, rows.step)
    for axis, positions in enumerate((row_ids, np.arange(size[1]))):
        length = x.shape[axis]
        if length == size[axis]:
            x = x if axis else x[rows]
            continue
        # Pixel centers are at half-integers; beyond the outermost centers the value is constant.
        source = ((positions + 0.5) * (length / size[axis]) - 0.5).clip(0, length - 1)
        low = source.astype(np.int64)
        fraction = (source - low).astype(np.float32)
        fraction = fraction.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = x.take(low, axis), x.take(np.minimum(low + 1, length - 1), axis)
        x = below + (above - below) * fraction
    return x
