"""What the training images are like: their size, and how many pixels of each class they hold."""

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
    """Side of a square as large as a training image, pixels; of several sizes, the median."""
    return float(np.median(np.sqrt(class_pixels(builder).sum(axis=1))))


def class_pixels(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Counts the classes of each training image, once for a prepared data set.

    Args:
        builder: a prepared data set; the counts are kept beside its TFRecords.

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
