"""Class weights from pixel counts."""

import numpy as np

from lcc_tf.errors import InputError


def class_weights_from_pixels(
    pixels: np.ndarray, method: str, *, ignore_class: int | None = None
) -> np.ndarray:
    """Computes class weights that are larger for rarer classes.

    Args:
        pixels: int64 `(num_images, num_classes)`, number of pixels per training image and class.
        method: "inverse_frequency" or "median_frequency".

            - "inverse_frequency": 1 / f, where f is the number of pixels of the class, divided by
              the number of all pixels.
            - "median_frequency": median(f) / f, where f is the number of pixels of the class,
              divided by the number of pixels in the images that contain the class. The median is
              over classes (Eigen & Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2).
        ignore_class: class id whose pixels are not counted; None to count all pixels.

    Returns:
        float64 `(num_classes,)`. The weights of the classes that occur have a mean of 1. The weight
        of `ignore_class` and of classes that do not occur is 0.

    Raises:
        InputError: the method is unknown, `pixels` or `ignore_class` is invalid, or no class
            occurs.

    Example:
        Class 0 has 3/4 of the pixels and class 1 has 1/4:

        >>> class_weights_from_pixels(np.array([[60, 20]]), "inverse_frequency")
        array([0.5, 1.5])
    """
    pixels = np.array(pixels, np.float64)
    if pixels.ndim != 2:
        raise InputError(
            "`pixels` must have the shape (num_images, num_classes). "
            f"Received: shape {pixels.shape}. Use one row per image and one column per class."
        )
    if not (np.isfinite(pixels) & (pixels >= 0)).all():
        raise InputError(
            "`pixels` must contain counts of pixels, which are finite and not negative. "
            f"Received: counts from {pixels.min()} to {pixels.max()}. Correct these counts."
        )
    if ignore_class is not None and not 0 <= ignore_class < pixels.shape[1]:
        raise InputError(
            f"`ignore_class` must be a class id in [0, {pixels.shape[1]}). "
            f"Received: ignore_class={ignore_class}. Use None to count all classes."
        )
    if ignore_class is not None:
        pixels[:, ignore_class] = 0
    if method == "inverse_frequency":
        pixels_of_images = np.full(pixels.shape[1], pixels.sum())
    elif method == "median_frequency":
        pixels_of_images = pixels.sum(axis=1) @ (pixels > 0)
    else:
        raise InputError(
            f"Unknown method of class weights. Received: {method!r}. "
            "Use 'inverse_frequency' or 'median_frequency'."
        )
    total = pixels.sum(axis=0)
    present = total > 0
    if not present.any():
        raise InputError(
            "Class weights need training pixels of at least one class that is not ignored. "
            f"Received: no such pixels in {len(pixels)} images, with ignore_class={ignore_class}. "
            "Check the masks, or choose another `ignore_class`."
        )
    weights = np.zeros_like(total)
    weights[present] = pixels_of_images[present] / total[present]
    # The median of f is the same factor for all classes. The division by the mean removes this
    # factor. Therefore, the median is not computed.
    return weights / weights[present].mean()
