"""Images, masks and probabilities at the size that is scored."""

import numpy as np
import tensorflow as tf


def at_side(image: np.ndarray, mask: np.ndarray, side: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image bilinearly and its mask to the nearest, as training on whole images does.

    Args:
        image: uint8 `(height, width, 3)`.
        mask: uint8 `(height, width)`.
        side: of the square, pixels; None to leave them as they are.
    """
    return (image, mask) if side is None else at_size(image, mask, (side, side))


def at_size(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image bilinearly and its mask to the nearest.

    Args:
        image: uint8 `(height, width, 3)`.
        mask: uint8 `(height, width)`.
        size: new height and width, pixels.
    """
    image = tf.image.resize(image, size, method="bilinear")
    mask = tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
    return image.numpy(), mask.numpy()


def resized_rows(x: np.ndarray, size: tuple[int, int], rows: slice) -> np.ndarray:
    """Some rows of what `tf.image.resize` makes of a map bilinearly.

    Args:
        x: float32 `(height, width, channels)`.
        size: new height and width, pixels.
        rows: of the new map, with both ends.

    Returns:
        float32 `(rows, new width, channels)`.
    """
    for axis, places in enumerate((np.arange(rows.start, rows.stop), np.arange(size[1]))):
        length = x.shape[axis]
        if length == size[axis]:
            x = x if axis else x[rows]
            continue
        # Pixel centres are at half-integers; beyond the outer ones the outer value holds.
        at = ((places + 0.5) * (length / size[axis]) - 0.5).clip(0, length - 1)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = x.take(low, axis), x.take(np.minimum(low + 1, length - 1), axis)
        x = below + (above - below) * share
    return x
