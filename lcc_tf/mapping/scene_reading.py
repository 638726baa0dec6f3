"""Options for reading an image file: bands, value range and pixel size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcc_tf.errors import InputError

SCALES = ("minmax", "percentile")


@dataclass(frozen=True)
class SceneReading:
    """Options for reading an image file: bands, value range and pixel size.

    Attributes:
        bands: numbers of the bands to read; the first band is 1:

            - For an RGB network: the red, green and blue band. None to use the bands that the file
              marks as red, green and blue, or the bands of an image with three unmarked bands.
            - For a network with other bands: the bands of the network. None to find these bands by
              their names, or by their numbers in the training images.
        scale: range of values that is scaled to [0, 255]. All parts of an image have the same
            range:

            - "minmax": minimum and maximum of each band.
            - "percentile": the 2nd and 98th percentile of each band.
            - Two numbers: the range of all bands.
            - None: no scaling of 8-bit images, "percentile" for other images.

            If a side of the image is longer than 2048 pixels, "minmax" and "percentile" are
            computed from a downsampled image. The longer side of this image has 2048 pixels.
        resample_to: pixel size at which the image is read, meters; None for the pixel size of the
            file.

    Raises:
        InputError: a value is invalid.

    Example:
        >>> SceneReading(bands=(4, 3, 2), scale=(0, 3000))
        SceneReading(bands=(4, 3, 2), scale=(0, 3000), resample_to=None)
        >>> SceneReading(scale=(9, 1))
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `scale` must be ... such as 0,3000. Received: scale=9,1.
    """

    bands: str | Sequence[int] | None = None
    scale: str | Sequence[float] | None = None
    resample_to: float | None = None

    def __post_init__(self) -> None:
        for name in ("bands", "scale"):  # arrays cannot be compared like tuples
            if not isinstance(value := getattr(self, name), str | None):
                object.__setattr__(self, name, tuple(value))
        bands, scale, meters = self.bands, self.scale, self.resample_to
        if bands is not None and (isinstance(bands, str) or not bands or min(bands) < 1):
            raise InputError(
                "`bands` must be the numbers of the red, green and blue band, such as 3,2,1, or of "
                "the bands of the network. The first band is 1. "
                f"Received: bands={joined(bands)}."
            )
        if scale is not None and not _is_scale(scale):
            raise InputError(
                "`scale` must be minmax, percentile, or a range of values such as 0,3000. "
                f"Received: scale={joined(scale)}."
            )
        if meters is not None and not 0 < meters < np.inf:
            raise InputError(
                "`resample_to` must be a pixel size larger than 0 meters. "
                f"Received: resample_to={meters}."
            )


def joined(values: str | Sequence[object]) -> str:
    """Joins values to a string such as "3,2,1". A string is returned unchanged."""
    return values if isinstance(values, str) else ",".join(map(str, values))


def _is_scale(scale: str | Sequence[float]) -> bool:
    """Returns True if `scale` is a name in `SCALES`, or two finite numbers in increasing order."""
    if isinstance(scale, str):
        return scale in SCALES
    return len(scale) == 2 and -np.inf < scale[0] < scale[1] < np.inf
