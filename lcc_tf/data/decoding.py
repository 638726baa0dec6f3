"""Decodes images and masks.

All images of a data set have one encoding. The decoder is chosen in Python, without a branch in the
graph.
"""

import tensorflow as tf
import tensorflow_datasets as tfds


def image_encoding(builder: tfds.core.DatasetBuilder) -> str:
    """Returns the encoding of a prepared data set's images: "jpeg" or "png"."""
    return builder.info.features["image"].encoding_format


def decode_image(data: tf.Tensor, encoding: str) -> tf.Tensor:
    """Decodes an image.

    Args:
        data: string scalar, the encoded image.
        encoding: "jpeg" or "png".

    Returns:
        uint8 `(height, width, 3)`, RGB in [0, 255].
    """
    if encoding == "png":
        return tf.io.decode_png(data, channels=3)
    # Other JPEG readers use the accurate transform by default.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def decode_window(data: tf.Tensor, encoding: str, corner: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Decodes a part of an image; for JPEG, without decoding the rest.

    Args:
        data: string scalar, the encoded image.
        encoding: "jpeg" or "png".
        corner: int32 `(2,)`, first row and column, pixels.
        size: int32 `(2,)`, height and width, pixels; the window lies within the image.

    Returns:
        uint8 `(height, width, 3)`, RGB in [0, 255].
    """
    if encoding == "png":
        return tf.slice(
            decode_image(data, encoding), [*tf.unstack(corner), 0], [*tf.unstack(size), 3]
        )
    window = tf.concat([corner, size], axis=0)
    return tf.io.decode_and_crop_jpeg(data, window, channels=3, dct_method="INTEGER_ACCURATE")


def decode_mask(data: tf.Tensor) -> tf.Tensor:
    """Decodes a mask.

    Args:
        data: string scalar, class ids as PNG.

    Returns:
        uint8 `(height, width)`, class ids.
    """
    return tf.io.decode_png(data, channels=1)[..., 0]
