"""Reflect padding of images, for training and prediction."""

import tensorflow as tf


def reflect_indices(positions: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Reflects positions outside an image, at any distance, into the image.

    Args:
        positions: int32 `(n,)`, tensor or numpy array; the image's first pixel is 0.
        size: int32 scalar, tensor or number; the image's side, pixels.

    Returns:
        int32 `(n,)` in `[0, size)`, as in `np.pad(mode="reflect")`.

    Example:
        >>> reflect_indices(np.arange(-2, 6), 4)
        array([2, 1, 0, 1, 2, 3, 2, 1])
    """
    period = 2 * (size - 1) + 1 // size  # 1 for an image of one pixel
    return size - 1 - abs(size - 1 - positions % period)


def reflect_padded_indices(size: tf.Tensor, divisor: int) -> tf.Tensor:
    """Returns the indices that reflect-pad one side of an image to a multiple of a number.

    Args:
        size: int32 scalar, the side, pixels.
        divisor: number that the padded side must be divisible by.

    Returns:
        int32 `(padded_size,)`, indices of the image's pixels.
    """
    # `-(-size // divisor)` is wrong in ONNX, which rounds negative quotients towards zero.
    return reflect_indices(tf.range((size + divisor - 1) // divisor * divisor), size)
