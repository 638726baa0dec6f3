"""Test-time augmentation: the mean prediction over symmetries of the image."""

from typing import TYPE_CHECKING

import numpy as np

from lcc_tf.errors import InputError

if TYPE_CHECKING:  # for commands that show the keys of `TTA` without importing TensorFlow
    from lcc_tf.prediction.tiling import Predict

# Quarter turns counterclockwise, and whether the rotated image is then flipped left to right
TTA = {
    "none": ((0, False),),
    "flip": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flipped) for turns in range(4) for flipped in (False, True)),
}


def with_tta(predict: "Predict", tta: str) -> "Predict":
    """Wraps a function so that it averages over symmetries of its images.

    Each rotated or flipped image is predicted, and its prediction is transformed back.

    Args:
        predict: predicts square images.
        tta: a key of `TTA`: "none", "flip" (both flips and their combination) or "d4" (all eight
            symmetries of the square).

    Returns:
        A function with the signature of `predict`.

    Raises:
        InputError: unknown `tta`.
    """
    if tta not in TTA:
        raise InputError(f"Unknown `tta`. Received: {tta!r}. Choose one of {list(TTA)}.")

    def averaged(images: np.ndarray) -> np.ndarray:
        total: np.ndarray | float = 0.0
        for turns, flipped in TTA[tta]:
            transformed = np.rot90(images, turns, axes=(1, 2))
            transformed = transformed[:, :, ::-1] if flipped else transformed
            predicted = predict(np.ascontiguousarray(transformed))
            predicted = predicted[:, :, ::-1] if flipped else predicted
            total = total + np.rot90(predicted, -turns, axes=(1, 2))
        return np.asarray(total / len(TTA[tta]))

    return averaged
