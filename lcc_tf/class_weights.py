"""Class weights from counts of pixels."""

import numpy as np

from lcc_tf.errors import InputError


def class_weights_from_pixels(
    pixels: np.ndarray, method: str, *, ignore_class: int | None = None
) -> np.ndarray:
    """Weights that give rare classes more say.

    Args:
        pixels: int64 `(num_images, num_classes)`, pixels of each class in each training image.
        method: "inverse_frequency", 1 / (share of the class in all pixels), or "median_frequency",
            median(f) / f, where f is the share of the class in the pixels of those images that it
            occurs in (Eigen & Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2).
        ignore_class: a class id whose pixels are not counted; None for no such class.

    Returns:
        float64 `(num_classes,)` with a mean of 1 over the classes that occur; 0 for those that
        don't, and for `ignore_class`.

    Raises:
        InputError: unknown method, or no class occurs.
    """
    pixels = np.array(pixels, np.float64)
    if ignore_class is not None:
        pixels[:, ignore_class] = 0
    if method == "inverse_frequency":
        seen_in = np.full(pixels.shape[1], pixels.sum())
    elif method == "median_frequency":
        seen_in = pixels.sum(axis=1) @ (pixels > 0)
    else:
        raise InputError(
            f"Unknown method of class weights. Received: {method!r}. "
            "Use 'inverse_frequency' or 'median_frequency'."
        )
    total = pixels.sum(axis=0)
    present = total > 0
    if not present.any():
        raise InputError(
            "No training pixel has a class that counts, so that no class is rare or frequent. "
            f"Received: ignore_class={ignore_class} and counts of shape {pixels.shape}."
        )
    # The median of the frequencies is the same factor for all, so the mean of 1 takes care of it.
    weights = np.zeros_like(total)
    weights[present] = seen_in[present] / total[present]
    return weights / weights[present].mean()
