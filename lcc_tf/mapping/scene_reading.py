"""Options for reading an image file as RGB."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcc_tf.errors import InputError

SCALES = ("minmax", "percentile")


@dataclass(frozen=True)
class SceneReading:
    """Bands, value range and pixel size with which an image file is read.

    Attributes:
        bands: numbers of the red, green and blue band, from 1; None for the three bands of an image
            that has three, or three and transparency.
        scale: values that become 0 and 255, the same for the whole scene: "minmax", "percentile" (2
            and 98 % of each band, from an overview), or two numbers; None for unchanged values of
            8-bit images, and "percentile" for all others.
        resample_to: pixel size at which the scene is read, meters; None for the file's pixel size.

    Raises:
        InputError: an invalid value.
    """

    bands: str | Sequence[float] | None = None
    scale: str | Sequence[float] | None = None
    resample_to: float | None = None

    def __post_init__(self) -> None:
        bands, scale, meters = self.bands, self.scale, self.resample_to
        if bands is not None and (isinstance(bands, str) or len(bands) != 3 or min(bands) < 1):
            raise InputError(
                "`bands` must be the numbers of the red, green and blue band, from 1, such as "
                f"3,2,1. Received: bands={joined(bands)}."
            )
        if scale is not None and not _is_scale(scale):
            raise InputError(
                "`scale` must be minmax, percentile, or the two values that become 0 and 255, such "
                f"as 0,3000. Received: scale={joined(scale)}."
            )
        if meters is not None and not 0 < meters < np.inf:
            raise InputError(
                "`resample_to` must be a pixel size larger than 0 meters. "
                f"Received: resample_to={meters}."
            )


def joined(values: str | Sequence[object]) -> str:
    """Returns values as text, as they are written on the command line."""
    return values if isinstance(values, str) else ",".join(map(str, values))


def _is_scale(scale: str | Sequence[float]) -> bool:
    if isinstance(scale, str):
        return scale in SCALES
    return len(scale) == 2 and -np.inf < scale[0] < scale[1] < np.inf
