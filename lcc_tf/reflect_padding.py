"""Reflect padding of images, for training and prediction."""

import tensorflow as tf


def reflect_indices(positions: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Maps positions outside an image to pixels of the image by reflection, at any distance.

    Args:
        positions: int32 `(n,)`, tensor or numpy array. The first pixel of the image is at 0.
        size: int32 scalar, tensor or number: side of the image, pixels.

    Returns:
        int32 `(n,)` in `[0, size)`, equal to the positions that `np.pad(mode="reflect")` uses.

    Example:
        >>> reflect_indices(np.arange(-2, 6), 4)
        array([2, 1, 0, 1, 2, 3, 2, 1])
    """
    period = 2 * (size - 1) + 1 // size  # 1 for an image of one pixel
    return size - 1 - abs(size - 1 - positions % period)


def reflect_padded_indices(size: tf.Tensor, divisor: int) -> tf.Tensor:
    """Returns indices that reflect-pad one side of an image to a multiple of `divisor`.

    Args:
        size: int32 scalar, side of the image, pixels.
        divisor: number that the padded side must be divisible by.

    Returns:
        int32 `(padded_size,)`, index of a pixel of the image for each pixel of the padded image.
    """
    # `-(-size // divisor)` is wrong in ONNX, because ONNX rounds negative quotients towards zero.
    return reflect_indices(tf.range((size + divisor - 1) // divisor * divisor), size)
