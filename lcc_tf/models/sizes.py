"""Image sizes that fit a network's strides, and mirrored pixels that fill an image up to one."""

import keras
import tensorflow as tf

from lcc_tf.models.encoders import EncoderPreprocessing
from lcc_tf.reflect_padding import mirrored


def size_divisor(model: keras.Model) -> int:
    """The number that height and width of a model's images must be divisible by."""
    return max(
        (
            layer.size_divisor
            for layer in model._flatten_layers()
            if isinstance(layer, EncoderPreprocessing)
        ),
        default=1,
    )


def mirrored_indices(size: tf.Tensor, divisor: int) -> tf.Tensor:
    """Indices that lengthen a side to a multiple of `divisor` by mirroring it.

    Args:
        size: int32 scalar, pixels.
        divisor: of the new size.

    Returns:
        int32 `(new_size,)`.
    """
    # Not `-(-size // divisor)`: ONNX divides negative numbers towards zero.
    return mirrored(tf.range((size + divisor - 1) // divisor * divisor), size)
