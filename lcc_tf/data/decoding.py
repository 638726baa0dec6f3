"""Decoding of images and masks from TFRecords.

All images of a data set have one encoding. So the decoder is chosen in Python, without a branch in
the graph.
"""

import tensorflow as tf
import tensorflow_datasets as tfds


def image_encoding(builder: tfds.core.DatasetBuilder) -> str:
    """Returns the encoding of a prepared data set's images: "jpeg" or "png"."""
    return builder.info.features["image"].encoding_format


def decode_image(data: tf.Tensor, encoding: str) -> tf.Tensor:
    """Decodes an image.

    Args:
        data: string scalar, a JPEG or PNG file.
        encoding: "jpeg" or "png".

    Returns:
        uint8 `(height, width, 3)`, RGB in [0, 255].

    Example:
        >>> file = tf.io.encode_png(np.zeros((2, 3, 3), np.uint8))
        >>> decode_image(file, "png").shape
        TensorShape([2, 3, 3])
    """
    if encoding == "png":
        return tf.io.decode_png(data, channels=3)
    # As Pillow and OpenCV by default. TensorFlow's default transform is less accurate.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def decode_window(data: tf.Tensor, encoding: str, corner: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Decodes a window of an image. A JPEG is not decoded outside the window.

    Args:
        data: string scalar, a JPEG or PNG file.
        encoding: "jpeg" or "png".
        corner: int32 `(2,)`, first row and column, pixels.
        size: int32 `(2,)`, height and width, pixels. The window must be within the image.

    Returns:
        uint8 `(height, width, 3)`, RGB in [0, 255].

    Example:
        >>> file = tf.io.encode_png(np.zeros((20, 30, 3), np.uint8))
        >>> decode_window(file, "png", tf.constant([4, 5]), tf.constant([2, 3])).shape
        TensorShape([2, 3, 3])
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
        data: string scalar, a PNG file of class ids.

    Returns:
        uint8 `(height, width)`, class ids.

    Example:
        >>> decode_mask(tf.io.encode_png(np.array([[[4], [6]]], np.uint8))).numpy().tolist()
        [[4, 6]]
    """
    return tf.io.decode_png(data, channels=1)[..., 0]
