"""Test-time augmentation: the mean prediction of rotated and flipped images."""

from typing import TYPE_CHECKING

import numpy as np

from lcc_tf.errors import InputError

if TYPE_CHECKING:  # the command line imports `TTA` without TensorFlow
    from lcc_tf.prediction.tiling import Predict

# Key: name of an augmentation. Value: one pair per transformed image. The first element is the
# number of counterclockwise rotations by 90 degrees. The second element is True if the rotated
# image is then flipped left to right.
TTA = {
    "none": ((0, False),),
    "flip": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flipped) for turns in range(4) for flipped in (False, True)),
}


def with_tta(predict: "Predict", tta: str) -> "Predict":
    """Returns a function that averages the predictions of rotated and flipped images.

    The function predicts each transformed image and transforms the prediction back.

    Args:
        predict: function that predicts square images.
        tta: a key of `TTA`:

            - "none": only the image.
            - "flip": the image, the horizontally flipped image, the vertically flipped image, and
              the image flipped in both directions.
            - "d4": four rotations of the image, each with and without a flip.

    Returns:
        Function with the same arguments and results as `predict`.

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
