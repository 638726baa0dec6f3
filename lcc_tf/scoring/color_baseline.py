"""Color baseline: a classifier that predicts the class of each pixel from its color only.

Scores of segmentation networks can be compared with the scores of this classifier. The classifier
counts the classes of the training pixels in a histogram of RGB colors. Each channel has `BINS` fine
bins. Many fine bins contain few pixels. Therefore the class frequencies of a fine bin are combined
with the class frequencies of a coarse bin, which contains several fine bins.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lcc_tf.bands import Bands, as_rgb

BINS = 32  # number of fine bins per channel; each bin has 8 of the 256 levels
COARSE_BINS = 8  # number of coarse bins per channel
# Number of artificial pixels that are added to each bin. In a fine bin, the artificial pixels have
# the class frequencies of the coarse bin. In a coarse bin, the artificial pixels have the class
# frequencies of all pixels.
PRIOR_PIXELS = 10.0


@dataclass(frozen=True)
class ColorBaseline:
    """Classifier of pixels that predicts the class frequencies of a histogram of RGB colors.

    Attributes:
        table: float32 `(BINS ** 3, num_classes)`, class probabilities of each fine bin.
        bands: bands of the images, of which only the colors are used; None for RGB in [0, 255].
    """

    table: np.ndarray
    bands: Bands | None = None

    @classmethod
    def fit(
        cls,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        num_classes: int,
        bands: Bands | None = None,
    ) -> "ColorBaseline":
        """Computes the class probabilities of each bin from images and masks.

        Args:
            batches: pairs of images, float or uint8 `(batch, height, width, 3)`, RGB in [0, 255],
                and masks, integer `(batch, height, width)`, class ids. Void pixels, which have
                negative labels, are not used.
            num_classes: number of classes.
            bands: bands of the images; None for RGB in [0, 255].
        """
        counts = np.zeros((BINS**3, num_classes))
        for images, masks in batches:
            cells = (_bin(as_rgb(images, bands)) * num_classes + masks)[masks >= 0]
            counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
        step = BINS // COARSE_BINS
        blocks = counts.reshape(COARSE_BINS, step, COARSE_BINS, step, COARSE_BINS, step, -1)
        coarse = blocks.sum(axis=(1, 3, 5), keepdims=True)
        overall = counts.sum(axis=0) / counts.sum()
        coarse = (coarse + PRIOR_PIXELS * overall) / (
            coarse.sum(axis=-1, keepdims=True) + PRIOR_PIXELS
        )
        fine = (blocks + PRIOR_PIXELS * coarse) / (
            blocks.sum(axis=-1, keepdims=True) + PRIOR_PIXELS
        )
        return cls(fine.reshape(counts.shape).astype(np.float32), bands)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the class probabilities of each pixel.

        Args:
            images: float or uint8 `(..., 3)`, RGB in [0, 255].

        Returns:
            float32 `(..., num_classes)`.
        """
        return self.table[_bin(as_rgb(images, self.bands))]


def _bin(images: np.ndarray) -> np.ndarray:
    """Returns the index of the fine bin of each pixel, int64 `(...)`."""
    channels = np.clip(images * (BINS / 256), 0, BINS - 1).astype(np.int64)
    return (channels[..., 0] * BINS + channels[..., 1]) * BINS + channels[..., 2]
