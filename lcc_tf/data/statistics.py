"""Statistics of the training images: their size, and their pixels per class."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.data.decoding import decode_mask
from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.files import write_atomically

CLASS_PIXELS = "class_pixels.npy"


def native_size(builder: tfds.core.DatasetBuilder) -> float:
    """Returns the median over training images of the square root of their area, pixels."""
    return float(np.median(np.sqrt(class_pixels(builder).sum(axis=1))))


def class_pixels(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Counts the pixels per class of each training image, once per prepared data set.

    Args:
        builder: a prepared data set; the counts are saved beside its TFRecords.

    Returns:
        int64 `(num_images, num_classes)`, pixels, in the order of the TFRecords.
    """
    file = Path(builder.data_dir) / CLASS_PIXELS
    if file.is_file():
        return np.load(file)
    num_classes = len(builder.info.metadata["class_names"])

    def count(example: dict[str, tf.Tensor]) -> tf.Tensor:
        mask = decode_mask(example["segmentation_mask"])
        ids = tf.reshape(tf.cast(mask, tf.int32), [-1])
        return tf.math.bincount(ids, minlength=num_classes, maxlength=num_classes, dtype=tf.int64)

    counts = encoded_examples(builder, "train").map(count, num_parallel_calls=tf.data.AUTOTUNE)
    counts = np.stack(
        list(
            tqdm(
                counts.as_numpy_iterator(),
                total=split_size(builder, "train"),
                desc="counting classes",
                unit="image",
            )
        )
    )
    content = io.BytesIO()
    np.save(content, counts)
    write_atomically(file, content.getvalue())
    return counts
