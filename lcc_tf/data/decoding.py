"""Decoding of images and masks from TFRecords.

All images of a data set have the same encoding, "jpeg" or "png". Therefore, the decoder is chosen
when the graph is built, and the graph needs no branches. Images and masks that are already decoded
are not changed. Images that are not RGB with 8 bits are decoded by TFDS. These images have one
channel per band and the dtype of the image files.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH
from tfds_deepglobe.classes import VOID_ID
from tfds_deepglobe.deepglobe_dataset_builder import BAND_RANGES
from tfds_deepglobe.source_files import delete_and_repeat

# Width of the margin that is decoded around a window of a JPEG file, pixels. A margin is necessary,
# because the decoded colors of a pixel also depend on neighboring pixels.
JPEG_MARGIN = 16


def image_encoding(builder: tfds.core.DatasetBuilder) -> str:
    """Returns the encoding of the images of a prepared data set: "jpeg", "png" or "raw".

    "raw" means images with `bands`, which TFDS decodes.
    """
    if builder.info.metadata.get("bands"):
        return "raw"
    return builder.info.features["image"].encoding_format


def band_ranges(builder: tfds.core.DatasetBuilder) -> dict[str, list[list[float]]]:
    """Returns the measured ranges of the bands of a data set.

    Args:
        builder: builder of a prepared data set with bands.

    Returns:
        Dictionary. Keys: "percentile" and "minmax". Value: a list with one range
            `[low, high]` per band.

    Raises:
        InputError: the file with the ranges is missing or damaged.
    """
    file = Path(builder.data_dir) / BAND_RANGES
    num_bands = len(builder.info.metadata["bands"]["names"])
    try:
        ranges = json.loads(file.read_bytes())
        if any(np.shape(ranges[name]) != (num_bands, 2) for name in ("percentile", "minmax")):
            raise ValueError("the number of bands is wrong")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{file} is missing or damaged: {error}. To prepare the data set again, "
            f"{delete_and_repeat(Path(builder.data_dir))}."
        ) from error
    return ranges


def decode_image(data: tf.Tensor, encoding: str) -> tf.Tensor:
    """Decodes an image.

    Args:
        data: content of a JPEG or PNG file, string scalar; or decoded image.
        encoding: encoding of the image, "jpeg" or "png".

    Returns:
        Image, uint8 `(height, width, 3)`, RGB in [0, 255].

    Example:
        >>> file = tf.io.encode_png(np.zeros((2, 3, 3), np.uint8))
        >>> decode_image(file, "png").shape
        TensorShape([2, 3, 3])
    """
    data = tf.convert_to_tensor(data)
    if data.dtype != tf.string:
        return data
    if encoding == "png":
        return tf.io.decode_png(data, channels=3)
    # Pillow and OpenCV also use "INTEGER_ACCURATE". TensorFlow's default is less accurate.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def decode_window(data: tf.Tensor, encoding: str, corner: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Decodes a window of an image. For JPEG, only the pixels near the window are decoded.

    Args:
        data: content of a JPEG or PNG file, string scalar; or decoded image.
        encoding: encoding of the image, "jpeg" or "png".
        corner: first row and first column of the window, int32 `(2,)`, pixels.
        size: height and width of the window, int32 `(2,)`, pixels. The window must be inside the
            image.

    Returns:
        Window, uint8 `(height, width, 3)`, RGB in [0, 255].

    Example:
        >>> file = tf.io.encode_png(np.zeros((20, 30, 3), np.uint8))
        >>> decode_window(file, "png", tf.constant([4, 5]), tf.constant([2, 3])).shape
        TensorShape([2, 3, 3])
    """
    first = corner
    if data.dtype != tf.string or encoding == "png":
        image = decode_image(data, encoding)
    else:
        end = tf.minimum(corner + size + JPEG_MARGIN, tf.image.extract_jpeg_shape(data)[:2])
        begin = tf.maximum(corner - JPEG_MARGIN, 0)
        image = tf.io.decode_and_crop_jpeg(
            data, tf.concat([begin, end - begin], 0), channels=3, dct_method="INTEGER_ACCURATE"
        )
        first = corner - begin
    return tf.slice(image, [*tf.unstack(first), 0], [*tf.unstack(size), image.shape[-1]])


def with_no_truth(mask: tf.Tensor) -> tf.Tensor:
    """Replaces `VOID_ID` in a decoded mask by `lcc_tf.ground_truth.NO_TRUTH`.

    Args:
        mask: class ids, uint8, any shape.

    Returns:
        Class ids, int32, with the same shape.

    Example:
        >>> with_no_truth(tf.constant([4, 255], tf.uint8)).numpy().tolist()
        [4, -1]
    """
    return tf.where(tf.equal(mask, VOID_ID), NO_TRUTH, tf.cast(mask, tf.int32))


def decode_mask(data: tf.Tensor) -> tf.Tensor:
    """Decodes a mask.

    Args:
        data: content of a PNG file of class ids, string scalar; or decoded mask.

    Returns:
        Class ids, uint8 `(height, width)`; `VOID_ID` for void pixels.

    Example:
        >>> decode_mask(tf.io.encode_png(np.array([[[4], [6]]], np.uint8))).numpy().tolist()
        [[4, 6]]
    """
    data = tf.convert_to_tensor(data)
    return data if data.dtype != tf.string else tf.io.decode_png(data, channels=1)[..., 0]
