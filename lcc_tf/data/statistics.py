"""Statistics of the training images: typical size, and number of pixels per class."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.data.decoding import decode_mask
from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.files import write_atomically
from tfds_deepglobe.deepglobe_dataset_builder import CLASS_PIXELS


def native_size(builder: tfds.core.DatasetBuilder) -> float:
    """Returns the typical side of a training image, in pixels.

    The typical side is the median of the square roots of the image areas.
    """
    return float(np.median(np.sqrt(class_pixels(builder).sum(axis=1))))


def class_pixels(builder: tfds.core.DatasetBuilder) -> np.ndarray:
    """Returns the number of pixels per class of each training image.

    `prepare` writes these numbers to a file in the folder of the TFRecords. Earlier versions of
    `prepare` did not write this file. If the file does not exist, the function decodes all training
    masks and writes the file.

    Args:
        builder: builder of a prepared data set.

    Returns:
        Numbers of pixels, int64 `(num_images, num_classes)`. The images are in no particular order.
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
