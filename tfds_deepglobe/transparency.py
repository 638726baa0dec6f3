"""Search for bands of an image file that mask its pixels."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rasterio

# Values of opaque pixels in transparency masks. Some programs use 255 for 16-bit images.
OPAQUE = (1, 255, 32767, 65535)
# In a mask, at least this fraction of the pixels is transparent or opaque. The other pixels are
# semitransparent, such as pixels at the border of a resampled image.
MASK_FRACTION = 0.99
# To count transparent and opaque pixels, a mask is downsampled to at most this height and width,
# pixels.
MASK_SIDE = 2048


def alpha_bands(dataset: "rasterio.DatasetReader") -> list[int]:
    """Returns the numbers of the bands that are marked as transparency."""
    kinds = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return [band for band, kind in kinds if kind.name == "alpha"]


def masked_fraction(dataset: "rasterio.DatasetReader", alpha: int) -> float | None:
    """Returns the fraction of transparent pixels; None if the transparency band is not a mask.

    Many programs mark any fourth band as transparency, even near infrared.
    """
    factor = min(1, MASK_SIDE / max(dataset.shape))
    size = tuple(max(1, round(side * factor)) for side in dataset.shape)
    values = dataset.read(alpha, out_shape=size)
    transparent, opaque = (values == 0).mean(), (values == values.max()).mean()
    if transparent == 1:
        # The band is 0 in the whole image. If all other bands are 0, too, the image is empty and
        # the band can be a mask. If not, the band can be near infrared.
        return None if dataset.read(out_shape=(dataset.count, *size)).any() else 1.0
    is_mask = values.max() in OPAQUE and transparent + opaque >= MASK_FRACTION
    return float(transparent) if is_mask else None
