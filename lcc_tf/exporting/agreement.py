"""How closely an export follows the Keras model that it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Of the pixels with the same class, at least, for formats that round no weights
FLOAT_SHARE = 0.999


class DeviationError(RuntimeError):
    """An export deviates from the Keras model by more than it may."""


@dataclass(frozen=True)
class Agreement:
    """What an export and the Keras model make of the same images."""

    deviation: float  # largest difference of two probabilities
    share: float  # of the pixels that get the same class
    num_pixels: int

    def __str__(self) -> str:
        return (
            f"same class as Keras on {100 * self.share:.3f} % of {self.num_pixels:,} pixels, "
            f"probabilities within {self.deviation:.1e}"
        )

    @classmethod
    def of(cls, received: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> "Agreement":
        """Compares probabilities, `(..., num_classes)` for each image.

        Args:
            received: those of the export.
            expected: those of the Keras model.

        Raises:
            DeviationError: shapes differ.
        """
        pairs = list(zip(received, expected, strict=True))
        for one, other in pairs:
            if one.shape != other.shape:
                raise DeviationError(
                    f"gives probabilities of the shape {one.shape} instead of {other.shape}"
                )
        same = [(one.argmax(-1) == other.argmax(-1)).ravel() for one, other in pairs]
        deviations = [np.abs(one - other).max() for one, other in pairs]
        return cls(
            deviation=float(np.max(deviations)),  # NaN where one is
            share=float(np.concatenate(same).mean()),
            num_pixels=sum(map(len, same)),
        )

    def require(self, name: str, *, share: float, deviation: float) -> "Agreement":
        """Gives itself if the export may be used.

        Args:
            name: of the export.
            share: the least share of pixels with the same class.
            deviation: the largest difference of two probabilities.

        Raises:
            DeviationError: it may not. A probability that is no number counts as too large a
                difference.
        """
        if self.share >= share and self.deviation <= deviation:
            return self
        raise DeviationError(
            f"{name} deviates from the Keras model: {self}. Needed: the same class on "
            f"{100 * share:g} %, probabilities within {deviation:g}."
        )
