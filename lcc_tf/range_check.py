"""Comparison of images with the training images of a network: dtype and values of the bands."""

import numpy as np

from lcc_tf.bands import Bands

# If a larger fraction of the values of a band is outside the range, the user receives a warning.
MAX_OUTSIDE = 0.5


class RangeCheck:
    """Counts the values of images that are outside the ranges of a network's bands.

    The network clips these values. If most values are outside, the image probably has another unit.

    Args:
        bands: bands of the network.

    Example:
        >>> check = RangeCheck(Bands(("red", "nir"), ((0, 1), (0, 3000)), dtype="uint16"))
        >>> check.add(np.array([[0.5, 4000], [0.6, 2000], [0.7, 9000]]))
        >>> check.warning("uint16")
        'warning: 67 % of the values of band nir are outside [0, 3000], the range of the...'
    """

    def __init__(self, bands: Bands) -> None:
        self.bands = bands
        self._outside = np.zeros(len(bands), np.int64)
        self._count = 0

    def add(self, values: np.ndarray) -> None:
        """Counts the values of valid pixels, `(num_pixels, bands)`."""
        low, high = np.array(self.bands.ranges, np.float32).T
        self._outside += ((values < low) | (values > high)).sum(axis=0)
        self._count += len(values)

    def warning(self, dtype: str) -> str | None:
        """Returns a warning for the user; None if the images are similar to the training images.

        Args:
            dtype: dtype of the images.
        """
        parts = []
        fraction = self._outside / max(1, self._count)
        if fraction.max() > MAX_OUTSIDE:
            worst = int(fraction.argmax())
            low, high = self.bands.ranges[worst]
            parts.append(
                f"{fraction[worst]:.0%} of the values of band {self.bands.names[worst]} are outside"
                f" [{low:.6g}, {high:.6g}], the range of the training images".replace("%", " %")
            )
            if others := int((fraction > MAX_OUTSIDE).sum()) - 1:
                parts.append(f"the same is true for {others} other band{'s' * (others > 1)}")
        if self.bands.dtype not in (None, dtype):
            parts.append(
                f"the dtype is {dtype}, but the training images have the dtype {self.bands.dtype}"
            )
        if not parts:
            return None
        return f"warning: {'; '.join(parts)}. Convert the values if their unit is different"
