"""A color classifier of single pixels, as a baseline for segmentation networks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

BINS = 32  # bins per channel, 8 levels wide
COARSE_BINS = 8  # bins per channel; their frequencies replace fine bins that have few pixels
PRIOR_PIXELS = 10.0  # weight of the coarse bin's frequencies in a fine bin


@dataclass(frozen=True)
class ColorBaseline:
    """Class frequencies in a histogram of RGB colors.

    Attributes:
        table: float32 `(BINS ** 3, num_classes)`, class probabilities of each color.
    """

    table: np.ndarray

    @classmethod
    def fit(
        cls, batches: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int
    ) -> "ColorBaseline":
        """Fits a baseline to the colors of each class.

        Args:
            batches: pairs of images, float or uint8 `(batch, height, width, 3)`, RGB in [0, 255],
                and masks, integer `(batch, height, width)`, class ids.
            num_classes: number of classes.
        """
        counts = np.zeros((BINS**3, num_classes))
        for images, masks in batches:
            cells = _bin(images) * num_classes + masks
            counts += np.bincount(cells.ravel(), minlength=counts.size).reshape(counts.shape)
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
        return cls(fine.reshape(counts.shape).astype(np.float32))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the class probabilities of each pixel.

        Args:
            images: float or uint8 `(..., 3)`, RGB in [0, 255].

        Returns:
            float32 `(..., num_classes)`.
        """
        return self.table[_bin(images)]


def _bin(images: np.ndarray) -> np.ndarray:
    """Returns the index of each pixel's histogram bin, int64 `(...)`."""
    channels = np.clip(images * (BINS / 256), 0, BINS - 1).astype(np.int64)
    return (channels[..., 0] * BINS + channels[..., 1]) * BINS + channels[..., 2]
