"""Bands, value range and pixel size with which an image file is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcc_tf.errors import InputError

SCALES = ("minmax", "percentile")


@dataclass(frozen=True)
class SceneReading:
    """Bands, value range and pixel size with which an image file is read as RGB.

    Attributes:
        bands: numbers of the red, green and blue band; the first band is 1. None for an image with
            three bands, or with three bands and transparency.
        scale: range of values that is scaled to [0, 255], the same for the whole image:

            - "minmax": minimum and maximum of each band.
            - "percentile": the 2nd and 98th percentile of each band.
            - Two numbers: the range of all bands.
            - None: no scaling of 8-bit images, "percentile" for other images.

            "minmax" and "percentile" are computed from an overview of at most 2048 pixels per side.
        resample_to: pixel size at which the image is read, meters; None for the file's pixel size.

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

    bands: str | Sequence[float] | None = None
    scale: str | Sequence[float] | None = None
    resample_to: float | None = None

    def __post_init__(self) -> None:
        bands, scale, meters = self.bands, self.scale, self.resample_to
        if bands is not None and (isinstance(bands, str) or len(bands) != 3 or min(bands) < 1):
            raise InputError(
                "`bands` must be the numbers of the red, green and blue band, such as 3,2,1. The "
                f"first band is 1. Received: bands={joined(bands)}."
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
    """Formats values as text such as "3,2,1". Text is returned unchanged."""
    return values if isinstance(values, str) else ",".join(map(str, values))


def _is_scale(scale: str | Sequence[float]) -> bool:
    """Returns True for a name in `SCALES` or an increasing range of finite numbers."""
    if isinstance(scale, str):
        return scale in SCALES
    return len(scale) == 2 and -np.inf < scale[0] < scale[1] < np.inf
