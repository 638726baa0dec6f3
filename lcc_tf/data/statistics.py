"""Statistics of the training images: typical size, and number of pixels per class."""

import contextlib
import io
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.bands import Bands, parse_scale
from lcc_tf.data.dataset import reading
from lcc_tf.data.decoding import band_ranges, decode_mask
from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.errors import InputError
from lcc_tf.files import write_atomically
from tfds_deepglobe.deepglobe_dataset_builder import CLASS_PIXELS

# Range of each dtype that `scale="dtype"` scales to [0, 255]
DTYPE_RANGES = {
    "uint8": (0, 255),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "float32": (0, 1),
}


def native_size(builder: tfds.core.DatasetBuilder) -> float:
    """Returns the typical side of a training image, in pixels.

    The typical side is the median of the square roots of the image areas.
    """
    return float(np.median(np.sqrt(image_pixels(builder))))


def image_pixels(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Returns the number of pixels of each training image, int64 `(num_images,)`.

    The number includes void pixels. The images are in the same order as in `class_pixels`.
    """
    return _counts(builder).sum(axis=1)


def class_pixels(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Returns the number of pixels per class of each training image.

    `prepare` writes these numbers to a file in the folder of the TFRecords. Earlier versions of
    `prepare` did not write this file. If the file is missing or damaged, the function decodes all
    training masks and writes the file.

    Args:
        builder: builder of a prepared data set.

    Returns:
        Numbers of pixels, int64 `(num_images, num_classes)`. The images are in no particular order.
    """
    return _counts(builder)[:, : len(builder.info.metadata["class_names"])]


def bands_of_data(builder: tfds.core.DatasetBuilder, scale: str) -> Bands | None:
    """Returns the bands of a data set with their ranges.

    Args:
        builder: builder of a prepared data set.
        scale: "percentile" or "minmax" of the training images, "dtype", or two numbers such as
            "0,3000".

    Returns:
        The bands; None if the images are RGB with 8 bits per channel.

    Raises:
        InputError: `scale` is invalid, or the images are RGB and `scale` is not "percentile".
    """
    stored = builder.info.metadata.get("bands")
    if not stored:
        if scale != "percentile":
            raise InputError(
                "`scale` is for images that are not RGB with 8 bits. Received: RGB images and "
                f"scale={scale}. Remove `scale`, or choose bands with `bands`."
            )
        return None
    numbers, names = tuple(stored["numbers"]), tuple(stored["names"])
    if fixed := parse_scale(scale):
        ranges = [fixed] * len(names)
    elif scale == "dtype":
        ranges = [DTYPE_RANGES[stored["dtype"]]] * len(names)
    else:
        ranges = [_widened(low, high) for low, high in band_ranges(builder)[scale]]
    return Bands(names, tuple(ranges), numbers, stored["count"], stored["dtype"])


def _widened(low: float, high: float) -> tuple[float, float]:
    """Returns a range that is not empty in float32.

    A band whose values are all equal contains no information. Any range is valid for this band.
    """
    if np.float32(high) > np.float32(low):
        return low, high
    return low, max(low + 1, float(np.nextafter(np.float32(low), np.float32(np.inf))))


def _counts(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Returns the numbers of pixels per class, and of void pixels, from the file `CLASS_PIXELS`.

    Files of earlier versions contain no number of void pixels. Then the result has one column less.
    """
    file = Path(builder.data_dir) / CLASS_PIXELS
    num_images = split_size(builder, "train")
    num_classes = len(builder.info.metadata["class_names"])
    shapes = [(num_images, num_classes), (num_images, num_classes + 1)]
    # If the file is missing or damaged, the masks are counted again. A damaged header can cause
    # many different exceptions in NumPy.
    with contextlib.suppress(Exception):
        counts = np.load(io.BytesIO(file.read_bytes()))
        if (
            isinstance(counts, np.ndarray)
            and counts.shape in shapes
            and counts.dtype == np.int64
            and counts.min() >= 0
            and counts.sum(axis=1).min() > 0
        ):
            return counts

    def count(example: dict[str, tf.Tensor]) -> tf.Tensor:
        ids = tf.reshape(tf.cast(decode_mask(example["segmentation_mask"]), tf.int32), [-1])
        # The last number is the number of void pixels.
        ids = tf.minimum(ids, num_classes)
        return tf.math.bincount(
            ids, minlength=num_classes + 1, maxlength=num_classes + 1, dtype=tf.int64
        )

    examples = encoded_examples(builder, "train").map(count, num_parallel_calls=tf.data.AUTOTUNE)
    bar = tqdm(
        examples.as_numpy_iterator(), total=num_images, desc="counting classes", unit="image"
    )
    with reading(builder):
        counts = np.stack(list(bar))
    content = io.BytesIO()
    np.save(content, counts)
    with contextlib.suppress(OSError):  # the file only saves time; the folder may be read-only
        write_atomically(file, content.getvalue())
    return counts
