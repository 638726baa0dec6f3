"""Agreement of an exported model with the Keras model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Minimum fraction of pixels with the same class, for formats that do not round weights
FLOAT_FRACTION = 0.999


class AgreementError(RuntimeError):
    """An export that differs too much from the Keras model."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of an export's probabilities with the Keras model's probabilities.

    Attributes:
        max_difference: maximum difference of two probabilities.
        fraction: fraction of pixels with the same class.
        num_pixels: number of compared pixels.
    """

    max_difference: float
    fraction: float
    num_pixels: int

    def __str__(self) -> str:
        return (
            f"same class as Keras on {100 * self.fraction:.3f} % of {self.num_pixels:,} pixels, "
            f"probabilities within {self.max_difference:.1e}"
        )

    @classmethod
    def of(cls, received: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> "Agreement":
        """Compares the probabilities of some images.

        Args:
            received: the export's probabilities, float `(..., num_classes)` per image.
            expected: the Keras model's probabilities, float `(..., num_classes)` per image.

        Raises:
            AgreementError: the shapes differ.
        """
        pairs = list(zip(received, expected, strict=True))
        for array, reference in pairs:
            if array.shape != reference.shape:
                raise AgreementError(
                    "The probabilities of the export and of the Keras model must have the same "
                    f"shape. Received: {array.shape} instead of {reference.shape}."
                )
        same = [(array.argmax(-1) == reference.argmax(-1)).ravel() for array, reference in pairs]
        differences = [np.abs(array - reference).max() for array, reference in pairs]
        return cls(
            max_difference=float(np.max(differences)),  # NaN if a difference is NaN
            fraction=float(np.concatenate(same).mean()),
            num_pixels=sum(map(len, same)),
        )

    def require(self, name: str, *, min_fraction: float, max_difference: float) -> None:
        """Checks that an export agrees with the Keras model.

        Args:
            name: name of the export.
            min_fraction: minimum fraction of pixels with the same class.
            max_difference: maximum difference of two probabilities.

        Raises:
            AgreementError: the agreement is too low, or a probability is NaN.
        """
        # `not`, since a comparison with NaN is False
        if not (self.fraction >= min_fraction and self.max_difference <= max_difference):
            raise AgreementError(
                f"{name} differs from the Keras model: {self}. Required: the same class on "
                f"{100 * min_fraction:g} %, probabilities within {max_difference:g}."
            )


@dataclass(frozen=True)
class ExportedFile:
    """An exported and checked file, or the main file of an exported folder.

    Attributes:
        name: name of the file.
        size: size of the file or of the folder, bytes.
        agreement: agreement with the Keras model.
    """

    name: str
    size: int
    agreement: Agreement

    def __str__(self) -> str:
        return f"{self.size / 1e6:.1f} MB: {self.agreement}"
