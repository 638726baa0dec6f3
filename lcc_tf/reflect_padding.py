"""Reflect padding of images, the same in training and prediction."""

import tensorflow as tf


def reflect_indices(positions: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Maps positions outside an image, at any distance, to reflected positions inside it.

    Args:
        positions: int32 `(n,)`, pixels; 0 is the image's first. A tensor or a numpy array.
        size: int32 scalar, the image's side, pixels; a tensor or a number.

    Returns:
        int32 `(n,)` in `[0, size)`: ..., 1, 0, 1, ..., size - 1, size - 2, ... as in
        `np.pad(mode="reflect")`.
    """
    period = 2 * (size - 1) + 1 // size  # 1 for a single pixel, which repeats
    return size - 1 - abs(size - 1 - positions % period)


def reflect_padded_indices(size: tf.Tensor, divisor: int) -> tf.Tensor:
    """Returns indices that reflect-pad a side to a multiple of `divisor`.

    Args:
        size: int32 scalar, pixels.
        divisor: of the new size.

    Returns:
        int32 `(new_size,)`.
    """
    # Not `-(-size // divisor)`: ONNX divides negative numbers towards zero.
    return reflect_indices(tf.range((size + divisor - 1) // divisor * divisor), size)
