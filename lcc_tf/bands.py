"""Bands of images that are not RGB in [0, 255], such as the bands of a satellite."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lcc_tf.arguments import check_types
from lcc_tf.band_names import COLORS, colors_of, key_of
from lcc_tf.errors import InputError

# Methods that determine the range of values of each band. The range is scaled to [0, 255].
SCALES = ("percentile", "minmax", "dtype")


@dataclass(frozen=True)
class Bands:
    """Names and value ranges of the bands of a network's images.

    A network with bands scales its input: for each band, the range becomes [0, 255]. Values outside
    the range are clipped. Therefore the network accepts images with their original values, and all
    parts of an image are scaled in the same way.

    Attributes:
        names: one name per band. Upper and lower case are equal. If a name contains the word red,
            green or blue, or the wavelength of this color, the band gets the ImageNet weights of
            the color.
        ranges: range of values per band, in the unit of the images.
        numbers: number of each band in the files of the training images, counted from 1. None if
            the numbers are unknown.
        count: number of bands in the files of the training images; None if unknown.
        dtype: dtype of the training images, such as "uint16"; None if unknown.

    Raises:
        InputError: `names`, `ranges` and `numbers` have different lengths; two names or two numbers
            are equal; or a name, a range or a number is invalid.

    Example:
        >>> bands = Bands(("red", "green", "blue", "nir"), ((0, 3000),) * 4)
        >>> bands.colors
        ('red', 'green', 'blue', None)
    """

    names: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    numbers: tuple[int, ...] | None = None
    count: int | None = field(default=None, compare=False)
    dtype: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("names", "numbers"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        try:
            ranges = tuple((float(low), float(high)) for low, high in self.ranges)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                "`ranges` must be pairs of numbers, one pair per band, such as ((0, 1), (0, 9)). "
                f"Received: ranges={self.ranges!r}."
            ) from error
        object.__setattr__(self, "ranges", ranges)
        check_types(self)
        if not self.names or len(self.names) != len(ranges):
            raise InputError(
                "`names` and `ranges` must have one entry per band. Received: "
                f"{len(self.names)} names and {len(ranges)} ranges."
            )
        if self.numbers is not None and len(self.numbers) != len(ranges):
            raise InputError(
                "`numbers` must have one number per band, or be None. Received: "
                f"{len(self.numbers)} numbers for {len(ranges)} bands."
            )
        names = [*map(key_of, self.names)]
        if "" in names or len({*names}) < len(names):
            raise InputError(
                "`names` must be different names, one per band; upper and lower case are equal. "
                f"Received: names={self.names}."
            )
        numbers = self.numbers or (1,)
        if min(numbers) < 1 or len({*numbers}) < len(numbers):
            raise InputError(
                "`numbers` must be different band numbers, counted from 1. Received: "
                f"numbers={self.numbers}."
            )
        if wrong := [pair for pair in ranges if not _is_range(*pair)]:
            raise InputError(
                "`ranges` must be pairs of numbers, the smaller number first. In float32, their "
                f"difference must be finite and above 0. Received: {wrong[0]}."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def colors(self) -> tuple[str | None, ...]:
        """Color of each band: "red", "green", "blue", or None for other bands."""
        return colors_of(self.names)

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Factors and offsets, float64 `(bands,)`, that convert the ranges to [0, 255]."""
        low, high = np.array(self.ranges).T
        factor = 255 / (high - low)
        return factor, -low * factor

    def composite(self, image: np.ndarray) -> np.ndarray:
        """Returns an RGB picture of an image.

        The picture contains the bands of the colors red, green and blue. If one of these bands does
        not exist, the picture contains the first three bands. If the image has only one or two
        bands, the picture contains the first band in gray.

        Args:
            image: `(..., bands)`, in the unit of `ranges`.

        Returns:
            float32 `(..., 3)`, RGB in [0, 255]; NaN is replaced by 0.
        """
        factor, offset = self.affine
        shown = [self.colors.index(color) for color in COLORS if color in self.colors]
        if len(shown) < 3:
            shown = [0, 1, 2] if len(self) > 2 else [0, 0, 0]
        values = image[..., shown].astype(np.float32) * factor[shown] + offset[shown]
        return np.nan_to_num(values).clip(0, 255).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "Bands | None":
        """Reads the result of `to_json`; returns None for None."""
        return None if content is None else cls(**content)


def parse_scale(text: str) -> tuple[float, float] | None:
    """Parses the argument `scale` of a training.

    Args:
        text: "percentile", "minmax", "dtype", or two numbers such as "0,3000".

    Returns:
        The two numbers; None for a word such as "dtype".

    Raises:
        InputError: the text is invalid.

    Example:
        >>> parse_scale("0,3000"), parse_scale("dtype")
        ((0.0, 3000.0), None)
    """
    if text in SCALES:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not _is_range(low, high):
        raise InputError(
            f"`scale` must be one of {', '.join(SCALES)}, or two numbers such as 0,3000. Received: "
            f"scale={text}."
        )
    return low, high


def _is_range(low: float, high: float) -> bool:
    """Returns True for a range of values that a network can scale with float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.float32(high) - np.float32(low)
    return bool(0 < size < np.inf)


def as_rgb(image: np.ndarray, bands: Bands | None) -> np.ndarray:
    """Returns an image as RGB in [0, 255], to show it.

    Args:
        image: `(..., channels)`.
        bands: bands of the image; None if the image is already RGB in [0, 255].
    """
    return image if bands is None else bands.composite(image)


def check_equal_bands(bands: Sequence[Bands | None]) -> None:
    """Verifies that networks have the same bands. The ranges of the bands may differ.

    Raises:
        InputError: the number of bands or the names of the bands differ.
    """
    names = [None if one is None else one.names for one in bands]
    if len({one and tuple(map(key_of, one)) for one in names}) > 1:
        texts = sorted({"RGB" if one is None else ", ".join(one) for one in names})
        raise InputError(
            f"All networks must have the same bands. Received: {' and '.join(texts)}. Use networks "
            "with the same bands."
        )
