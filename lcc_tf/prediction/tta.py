"""Test-time augmentation: the mean prediction of rotated and flipped images."""

from typing import TYPE_CHECKING

import numpy as np

from lcc_tf.errors import InputError

if TYPE_CHECKING:  # the command line imports `TTA` without TensorFlow
    from lcc_tf.prediction.tiling import Predict

# Number of counterclockwise quarter turns; True if the rotated image is then flipped left to right
TTA = {
    "none": ((0, False),),
    "flip": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flipped) for turns in range(4) for flipped in (False, True)),
}


def with_tta(predict: "Predict", tta: str) -> "Predict":
    """Wraps a function so that it predicts the mean over rotated and flipped images.

    Each transformed image is predicted, and its prediction is transformed back.

    Args:
        predict: function that predicts square images.
        tta: a key of `TTA`:

            - "none": the image.
            - "flip": the image, both flips, and both flips together.
            - "d4": all eight rotations and reflections of the square.

    Returns:
        A function with the arguments and results of `predict`.

    Raises:
        InputError: `tta` is not a key of `TTA`.

    Example:
        >>> red = lambda images: images[..., :1]
        >>> image = np.arange(12.0).reshape(1, 2, 2, 3)
        >>> with_tta(red, "d4")(image)[0, ..., 0]
        array([[0., 3.],
               [6., 9.]])
    """
    if tta not in TTA:
        raise InputError(f"`tta` must be one of {list(TTA)}. Received: {tta!r}.")

    def mean(images: np.ndarray) -> np.ndarray:
        total: np.ndarray | float = 0.0
        for turns, flipped in TTA[tta]:
            transformed = np.rot90(images, turns, axes=(1, 2))
            transformed = transformed[:, :, ::-1] if flipped else transformed
            predicted = predict(np.ascontiguousarray(transformed))
            predicted = predicted[:, :, ::-1] if flipped else predicted
            total = total + np.rot90(predicted, -turns, axes=(1, 2))
        return np.asarray(total / len(TTA[tta]))

    return mean
