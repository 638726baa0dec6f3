"""Images and masks of a prepared data set as they are in the data set."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.data.decoding import decode_image, decode_mask, image_encoding
from lcc_tf.data.pipeline import encoded_examples, split_size


def native_images(
    builder: tfds.core.DatasetBuilder, split: str, progress: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and masks of a split as they are in the data set, under a progress bar.

    Args:
        builder: a prepared data set.
        split: "train", "validation" or "test".
        progress: what to call the bar.

    Yields:
        Image, uint8 `(height, width, 3)`, RGB, and mask, uint8 `(height, width)`, class ids.

    Raises:
        InputError: the split is empty.
    """
    encoding = image_encoding(builder)

    def decode(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode_image(example["image"], encoding)
        return image, decode_mask(example["segmentation_mask"])

    total = split_size(builder, split)
    images = encoded_examples(builder, split).map(decode, num_parallel_calls=2).prefetch(2)
    yield from tqdm(images.as_numpy_iterator(), total=total, desc=progress, unit="image")
