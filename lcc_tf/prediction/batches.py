"""Prediction in batches that need limited memory.

The memory for one batch grows in proportion to the number of its pixels. Therefore the number of
images per batch depends on the size of the images.
"""

import math
import sys

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from lcc_tf.errors import InputError
from lcc_tf.prediction.tiling import Predict, images_per_batch


def in_batches(predict: Predict) -> Predict:
    """Returns a function that predicts images in batches of limited memory.

    If the memory is not enough for a batch, the function prints one line. Then it predicts the
    images again in batches of half the size. All later batches have the smaller size.

    Args:
        predict: function that predicts images of the same size.

    Returns:
        Function with the same arguments and results as `predict`.

    Raises:
        InputError: the memory is not enough for a batch of one image, or a prediction is not
            finite. The returned function raises this error.

    Example:
        >>> in_batches(lambda images: images[..., :1])(np.zeros((2, 512, 512, 3))).shape
        (2, 512, 512, 1)
    """
    # Largest number of pixels per batch. It decreases if the memory is not enough.
    maximum = math.inf

    def predict_batches(images: np.ndarray) -> np.ndarray:
        nonlocal maximum
        height, width = images.shape[1:3]
        predicted: list[np.ndarray] = []
        first = 0
        while first < len(images):
            size = images_per_batch(height * width, maximum)
            batch = images[first : first + size]
            try:
                predicted.append(_finite(predict(batch)))
                first += size
            except tf.errors.ResourceExhaustedError as error:
                if len(batch) == 1:
                    raise InputError(
                        f"The memory is not enough to predict an image of {height}x{width} pixels. "
                        "Use smaller tiles (`tile`) or a smaller network."
                    ) from error
                size = len(batch) // 2
                maximum = size * height * width
                tqdm.write(
                    f"warning: The memory is not enough for {len(batch)} tiles of {height}x{width} "
                    f"pixels per batch. All later batches have {size} tiles.",
                    file=sys.stderr,
                )
        return predicted[0] if len(predicted) == 1 else np.concatenate(predicted)

    return predict_batches


def _finite(predicted: np.ndarray) -> np.ndarray:
    """Checks and returns predictions. Without this check, NaN would silently become class 0.

    Raises:
        InputError: a prediction is NaN or infinite.
    """
    if not np.isfinite(predicted).all():
        raise InputError(
            "The predictions of the network must be finite. Received: NaN or infinite values. The "
            "training has diverged, the weights are damaged, or values exceed the range of "
            "float16. Use other weights or another precision."
        )
    return predicted
